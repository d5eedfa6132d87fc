"""The server that ``guardrail demo`` runs: the app, for allowed host names only.

Any site can point its own host name at this machine. A browser then treats the demo as part of that site,
which could read the page, ask the model and answer waiting reviews (DNS rebinding). Only the host name in the
request gives such a site away.
"""

import os
import webbrowser
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from threading import Thread
from urllib.parse import urlsplit

import streamlit as st
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from demo_app.settings import own_hosts

__all__ = ["OwnHosts"]


_REFUSED = (
    "The demo does not answer to this host name. To allow it, start the demo with guardrail demo --host NAME"
)


class OwnHosts:
    """Middleware that allows only requests and sockets with an allowed host name and origin.

    Args:
        app: The wrapped application.
        hosts: Allowed names, without ports.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it before anything else looks at it."""
        if scope["type"] not in ("http", "websocket") or self._is_own(Headers(scope=scope)):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            # 421: misdirected request.
            await PlainTextResponse(_REFUSED, status_code=421)(scope, receive, send)
        else:
            await WebSocketClose(code=1008, reason="unknown host")(scope, receive, send)

    def _is_own(self, headers: Headers) -> bool:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        # With a repeated header, the copy checked here might not be the one used later.
        if len(hosts) != 1 or len(origins) > 1:
            return False
        return self._is_known(f"//{hosts[0]}") and all(map(self._is_known, origins))

    def _is_known(self, address: str) -> bool:
        try:
            parts = urlsplit(address)
            # Reading the port validates it.
            name, _ = parts.hostname, parts.port
        except ValueError:
            return False
        is_plain = not (parts.path or parts.query or parts.fragment or "@" in parts.netloc)
        return name is not None and is_plain and name.rstrip(".") in self._hosts


@asynccontextmanager
async def _shown(_app: st.App) -> AsyncIterator[None]:
    """Open the page in a browser; Streamlit does so only when started as ``streamlit run``."""
    if os.environ.get("GUARDRAIL_DEMO_OPENS"):
        address = f"http://{st.get_option('server.address')}:{st.get_option('server.port')}"
        # The call may block until the browser exits.
        Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    yield


app = st.App("app.py", lifespan=_shown, middleware=[Middleware(OwnHosts, hosts=own_hosts())])
