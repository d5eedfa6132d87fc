"""Settings of the server that generates, where the guard's model only reads; and the guard made of them."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr
from pydantic_settings import BaseSettings

from guardrail.errors import OptionError, UpstreamError
from guardrail.server.json_logging import LOGGER

if TYPE_CHECKING:
    from guardrail.guard.guard import Guard
    from guardrail.policy.model import Policy
    from guardrail.upstream.chat_endpoint import ChatEndpoint
    from guardrail.utils.threads import ProgressCallback

__all__ = ["UpstreamSettings", "open_guard"]


class UpstreamSettings(BaseSettings):
    """Which inference server generates, if another does.

    Attributes:
        upstream: URL of an OpenAI-compatible API, such as ``http://127.0.0.1:8001/v1``; None where the
            guard's own model generates.
        upstream_model: Name of the model there; the only one that it serves if not given.
        upstream_weights: Whose weights it runs: ``same`` as the guard's model, or the name by which a profile
            knows the model. Not declared if not given, and then no profile holds.
        upstream_api_key_file: File with the key for it.
        upstream_api_key: The key itself, from the environment alone.
    """

    upstream: str | None = None
    upstream_model: str | None = None
    upstream_weights: str | None = None
    upstream_api_key_file: Path | None = None
    upstream_api_key: SecretStr | None = None

    def check_upstream(self) -> None:
        """See that the settings fit together.

        Raises:
            OptionError: One is of an upstream server, and there is none; or there are two keys.
        """
        given = [name for name in UpstreamSettings.model_fields if getattr(self, name) is not None]
        if given and self.upstream is None:
            option = f"--{given[0].replace('_', '-')}"
            raise OptionError(
                f"{option} is of an upstream server, and there is none: give --upstream URL too."
            )
        if self.upstream_api_key is not None and self.upstream_api_key_file is not None:
            raise OptionError(
                "There are two keys for the upstream server: a file and an environment variable."
            )

    def read_upstream_key(self) -> str | None:
        """The key for the upstream server; None where it needs none.

        Raises:
            OptionError: Its file cannot be read, or holds anything but one key.
        """
        if self.upstream_api_key is not None:
            return self.upstream_api_key.get_secret_value().strip() or None
        path = self.upstream_api_key_file
        if path is None:
            return None
        try:
            lines = path.read_text("utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            raise OptionError(f"The key for the upstream server cannot be read from {path}: {why}.") from None
        if len(lines) != 1:
            raise OptionError(f"{path} has {len(lines)} words; it has one key for the upstream server.")
        return lines[0]


def open_guard(
    policy: "Policy",
    settings: "UpstreamSettings",
    *,
    model: str | None,
    batch_size: int,
    request_timeout: float,
    progress: "ProgressCallback",
) -> "Guard":
    """The guard that is served.

    An upstream server that does not answer yet may come up later; the server is not ready until then.

    Args:
        policy: What decides.
        settings: Which server generates, if another does.
        model: What answers, or reads what the other answered.
        batch_size: Most waiting requests that are run together.
        request_timeout: Seconds for an answer.
        progress: Told of downloads.

    Raises:
        OptionError: The upstream server answers that it cannot be asked like this.
        GuardrailError: The model cannot be opened, or its profile or a target cannot be used.
    """
    if settings.upstream is None:
        from guardrail.guard.guard import Guard

        return Guard.from_policy(policy, model, batch_size=batch_size, progress=progress)
    from guardrail.upstream.chat_endpoint import ChatEndpoint
    from guardrail.upstream.upstream_guard import UpstreamGuard

    key = settings.read_upstream_key()
    upstream = ChatEndpoint(settings.upstream, settings.upstream_model, api_key=key, timeout=request_timeout)
    _try_out(upstream)
    return UpstreamGuard.from_policy(
        policy,
        model,
        upstream=upstream,
        weights=settings.upstream_weights,
        batch_size=batch_size,
        progress=progress,
    )


def _try_out(upstream: "ChatEndpoint") -> None:
    try:
        asyncio.run(upstream.check())
    except UpstreamError as error:
        may_come = error.status is None or error.status >= 500
        if upstream.model is None:
            raise OptionError(
                f"The upstream server {upstream.url} does not tell its model: {error}. Start it first, or "
                "name the model by --upstream-model."
            ) from None
        if not may_come:
            raise OptionError(f"The upstream server {upstream.url} cannot be asked: {error}.") from None
        LOGGER.warning("the upstream server is not ready", extra={"facts": {"upstream": str(error)}})
