"""Runs the server: everything that can be wrong is known before it listens."""

import math
import socket
from typing import TYPE_CHECKING

import uvicorn

from guardrail.errors import OptionError
from guardrail.guard.guard import Guard
from guardrail.policy.load import load_policy
from guardrail.server.api_keys import ApiKeys
from guardrail.server.app import create_app
from guardrail.server.bounded_connections import BoundedConnection
from guardrail.server.json_logging import LOGGER, log_as_json
from guardrail.server.upstream_settings import open_guard
from guardrail.telemetry.exporters import set_up_telemetry
from guardrail.upstream.upstream_guard import UpstreamGuard

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from guardrail.server.server_settings import ServerSettings
    from guardrail.utils.threads import ProgressCallback

__all__ = ["run_server"]


def run_server(
    settings: "ServerSettings", progress: "Callable[[], AbstractContextManager[ProgressCallback]]"
) -> None:
    """Serve until SIGTERM or SIGINT, then answer what was asked, and end.

    Args:
        settings: What is served.
        progress: Shows downloads, until the server listens.

    Raises:
        PolicyError: The policy has mistakes.
        OptionError: The file of keys cannot be used, the address cannot be had, or a variable of
            OpenTelemetry cannot be followed.
        MissingDependencyError: Telemetry was asked for, and is not installed.
        GuardrailError: The model cannot be opened, or its profile or a target cannot be used.
    """
    policy = load_policy(settings.policy)
    keys = None if settings.api_key_file is None else ApiKeys.from_file(settings.api_key_file)
    metrics = set_up_telemetry(required=settings.telemetry)
    with _bound(settings.host, settings.port) as listener:
        with progress() as told:
            guard = open_guard(
                policy,
                settings,
                model=settings.model,
                batch_size=settings.batch_size,
                request_timeout=settings.request_timeout,
                progress=told,
            )
            others = _others(keys, guard, settings.batch_size)
        log_as_json()
        host, port = listener.getsockname()[:2]
        facts = {"host": host, "port": port, "policy": policy.name, "keys": keys is not None}
        LOGGER.info("serving", extra={"facts": facts})
        uvicorn.Server(
            uvicorn.Config(
                create_app(guard, settings, keys, metrics, others=others),
                # The log is ours: uvicorn's own would write paths and the words of errors.
                log_config=None,
                http=BoundedConnection,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws="none",
                timeout_graceful_shutdown=math.ceil(settings.request_timeout) + 5,
            )
        ).run(sockets=[listener])


def _others(keys: ApiKeys | None, guard: Guard, batch_size: int) -> dict[str, Guard]:
    """Guards by the further policies of a file of keys, over the same weights."""
    others: dict[str, Guard] = {}
    if keys is not None and keys.policies and isinstance(guard, UpstreamGuard):
        raise OptionError("Behind --upstream there is one policy; take policies out of the file of keys.")
    for name, source in (keys.policies if keys is not None else {}).items():
        if name == guard.policy.name:
            raise OptionError(f"The file of keys calls a policy {name!r}, as the server's own is called.")
        policy = load_policy(source)
        if policy.model not in (None, guard.policy.model, guard.model.name):
            raise OptionError(f"The policy {name!r} is for the model {policy.model}; one model is served.")
        others[name] = Guard(policy, guard.model, batch_size=batch_size)
    return others


def _bound(host: str, port: int) -> socket.socket:
    """A socket on an address, which nobody can connect to before the server listens on it."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise OptionError(
            f"The server cannot listen on {host} port {port}: {error.strerror or error}. Choose another by "
            "--host and --port."
        ) from error
    return listener
