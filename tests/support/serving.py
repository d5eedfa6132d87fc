"""A server on loopback in a thread of its own, over the tiny model, with all that it logs."""

import io
import logging
import socket
import threading
import time
from contextlib import contextmanager

import httpx
import uvicorn

from guardrail.guard import Guard
from guardrail.server.app import create_app
from guardrail.server.bounded_connections import BoundedConnection
from guardrail.server.json_logging import LOGGER, JsonFormatter
from guardrail.server.server_settings import ServerSettings
from tests.support.guards import ASKED, policy_of, tiny

QUESTION = [{"role": "user", "content": ASKED}]
CHAT = "/v1/chat/completions"


class Served:
    """A server that runs, a client of it, and its log so far."""

    def __init__(self, url, guard, log):
        self.url, self.guard, self._log = url, guard, log
        self.client = httpx.Client(base_url=url, timeout=60)

    @property
    def log(self):
        return self._log.getvalue()

    def chat(self, messages=QUESTION, **fields):
        body = {"model": "tiny", "messages": messages, "max_tokens": 6, **fields}
        return self.client.post(CHAT, json=body)


@contextmanager
def serving(
    *rules,
    model=None,
    keys=None,
    policy=None,
    guard=None,
    metrics=None,
    connection=BoundedConnection,
    others=None,
    **settings,
):
    """Serve a policy over the tiny model; ``policy`` is further fields of it."""
    guard = guard or Guard(policy_of(*rules, **(policy or {})), model or tiny(), batch_size=8)
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    handler.setFormatter(JsonFormatter())
    loggers = [logging.getLogger(), LOGGER, logging.getLogger("uvicorn.error")]
    before = [logger.level for logger in loggers]
    logging.getLogger().addHandler(handler)
    for logger in loggers:
        logger.setLevel(logging.INFO)
    app = create_app(guard, ServerSettings(**settings), keys, metrics, others=others)
    config = uvicorn.Config(
        app, http=connection, log_config=None, access_log=False, ws="none", server_header=False
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until = time.monotonic() + 30
            while not server.started and time.monotonic() < until:
                time.sleep(0.01)
            served = Served(f"http://127.0.0.1:{listener.getsockname()[1]}", guard, log)
            with served.client:
                yield served
        finally:
            server.should_exit = True
            thread.join()
            logging.getLogger().removeHandler(handler)
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)


class Held:
    """The model, kept busy until it is let go."""

    def __init__(self, guard):
        self._go = threading.Event()
        has = threading.Event()

        def hold():
            with guard.model.alone():
                has.set()
                self._go.wait(60)

        self._thread = threading.Thread(target=hold)
        self._thread.start()
        has.wait(60)

    def __enter__(self):
        return self

    def let_go(self):
        self._go.set()

    def __exit__(self, *raised):
        self._go.set()
        self._thread.join()
