"""Settings of the server: options of ``guardrail serve``, each also as an environment variable."""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict, SettingsError

from guardrail.errors import OptionError
from guardrail.server.upstream_settings import UpstreamSettings

__all__ = ["ServerSettings", "read_settings"]

_PREFIX = "GUARDRAIL_"


class ServerSettings(UpstreamSettings):
    """What the server serves, to whom, and how much of it; beside what :class:`UpstreamSettings` has.

    Attributes:
        policy: Path of a policy, or ``builtin:NAME``.
        model: The model that answers; the policy's own, and otherwise the built-in, if not given.
        host: Address to listen on.
        port: Port to listen on; 0 for a free one.
        api_key_file: File with the keys that clients may use, one a line.
        insecure: Listen on an address that other machines reach, without keys.
        allowed_hosts: Names by which the server may be addressed; in the environment with commas between.
        batch_size: Most waiting requests that are answered together.
        max_body_bytes: Largest body of a request, in bytes.
        max_prompt_tokens: Longest prompt, in tokens; None for what the model's context holds.
        max_output_tokens: Longest answer that may be asked for, in tokens.
        max_waiting: Most requests that run and wait at once; further ones are told to come again.
        request_timeout: Seconds until an answer must have been decided on, waiting and escalation included.
        telemetry: Whether spans and metrics are recorded; if not given, where the extra is installed.
        keep_alive: Seconds after which a silent stream sends a comment.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, hide_input_in_errors=True, extra="forbid")

    policy: str = "builtin:default"
    model: str | None = None
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    api_key_file: Path | None = None
    insecure: bool = False
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    batch_size: Annotated[int, Field(ge=1)] = 8
    max_body_bytes: Annotated[int, Field(ge=1)] = 1_000_000
    max_prompt_tokens: Annotated[int, Field(ge=1)] | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] = 1024
    max_waiting: Annotated[int, Field(ge=1)] = 64
    request_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 120.0
    telemetry: bool | None = None
    keep_alive: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _with_commas(cls, value: Any) -> Any:
        return tuple(part.strip().lower() for part in value.split(",")) if isinstance(value, str) else value

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the address."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


def read_settings(given: Mapping[str, Any]) -> ServerSettings:
    """Read the settings: what is given counts before the environment, and that before the defaults.

    Args:
        given: Settings by name; None gives nothing.

    Raises:
        OptionError: A setting is out of its range or not known; a variable is named almost as one; or other
            machines could reach the server without a key.
    """
    _check_names(os.environ)
    try:
        settings = ServerSettings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise OptionError("\n".join(_mistakes(error))) from None
    except SettingsError as error:
        raise OptionError(str(error)) from None
    settings.check_upstream()
    if not settings.is_local and settings.api_key_file is None and not settings.insecure:
        raise OptionError(
            f"Other machines can reach {settings.host}, so clients need keys: give --api-key-file FILE, with "
            "a key a line, or --insecure to let anybody ask."
        )
    return settings


def _check_names(environment: Mapping[str, str]) -> None:
    """See that no variable is meant as a setting and passed over: another policy, or no keys, would count.

    Others may begin with the prefix: policies name variables, and they are named as their authors like.
    """
    known = [name.upper() for name in ServerSettings.model_fields]
    for variable in sorted(environment):
        name = variable.upper().removeprefix(_PREFIX)
        if name == variable.upper() or name in known:
            continue
        begun = [one for one in known if name.startswith(f"{one}_") or one.startswith(f"{name}_")]
        if meant := get_close_matches(name, known, n=1, cutoff=0.8) or begun:
            raise OptionError(
                f"{variable} is no setting of the server. If {_PREFIX}{meant[0]} was meant, rename it; "
                "otherwise unset it."
            )


def _mistakes(error: ValidationError) -> list[str]:
    mistakes = []
    for one in error.errors(include_url=False, include_input=False):
        name = str(one["loc"][0]) if one["loc"] else "settings"
        option = f"--{name.replace('_', '-')} ({_PREFIX}{name.upper()})"
        mistakes.append(f"{option}: {one['msg']}.")
    return mistakes
