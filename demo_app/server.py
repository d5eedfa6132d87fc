"""The server that ``guardrail demo`` runs: the app, for allowed host names only."""

import os
import webbrowser
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Thread

import streamlit as st
from starlette.middleware import Middleware

from demo_app.hosts import OwnHosts, own_hosts


@asynccontextmanager
async def _shown(_app: st.App) -> AsyncIterator[None]:
    """Open the page in a browser; Streamlit does so only when started as ``streamlit run``."""
    if os.environ.get("GUARDRAIL_DEMO_OPENS"):
        address = f"http://{st.get_option('server.address')}:{st.get_option('server.port')}"
        # The call may block until the browser exits.
        Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    yield


app = st.App("app.py", lifespan=_shown, middleware=[Middleware(OwnHosts, hosts=own_hosts())])
