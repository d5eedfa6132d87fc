"""The host names that the page answers to, and no others.

Any site can have its own name lead to this machine, and a browser then takes the page for a part of that
site, which may read it, ask the model and answer what waits for people (DNS rebinding). What gives it away is
the name that the browser asked for.
"""

import os
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

__all__ = ["OwnHosts", "own_hosts"]

# Names by which a browser on this machine finds it, and others that whoever starts the demo gives.
_HERE = ("localhost", "127.0.0.1", "::1")
_GIVEN = "GUARDRAIL_DEMO_HOSTS"
_REFUSED = (
    "This page does not answer to the name that was asked for. Whoever started the demo can give it another "
    "name: guardrail demo --host NAME"
)


def own_hosts() -> tuple[str, ...]:
    """The names that the page answers to."""
    given = (name.strip().lower().rstrip(".") for name in os.environ.get(_GIVEN, "").split(","))
    return (*_HERE, *filter(None, given))


class OwnHosts:
    """Lets requests and sockets through that ask for a name of one's own, and come from a page of one's own.

    Args:
        app: What answers them.
        hosts: The names, without ports.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse before anything is looked at."""
        if scope["type"] not in ("http", "websocket") or self._is_own(Headers(scope=scope)):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            # 421, "misdirected request": it was meant for somebody else.
            await PlainTextResponse(_REFUSED, status_code=421)(scope, receive, send)
        else:
            await WebSocketClose(code=1008, reason="unknown host")(scope, receive, send)

    def _is_own(self, headers: Headers) -> bool:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        # What sends one of them twice would have one looked at and the other believed.
        if len(hosts) != 1 or len(origins) > 1:
            return False
        return self._is_known(f"//{hosts[0]}") and all(map(self._is_known, origins))

    def _is_known(self, address: str) -> bool:
        try:
            parts = urlsplit(address)
            # Looking at the port says whether it is one.
            name, _ = parts.hostname, parts.port
        except ValueError:
            return False
        is_plain = not (parts.path or parts.query or parts.fragment or "@" in parts.netloc)
        return name is not None and is_plain and name.rstrip(".") in self._hosts
