"""The demo as ``guardrail demo`` starts it, for a browser to visit."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def serving(data, *, headless=True, environment=None):
    """The address of a demo in a process of its own, with the built-in model.

    Args:
        data: Folder of its files.
        headless: Open no browser.
        environment: What it runs in, if not what this process does.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--data", str(data), *["--headless"] * headless]
    process = subprocess.Popen(
        [sys.executable, "-m", "guardrail", "demo", *options], stdin=subprocess.DEVNULL, env=environment
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(f"{address}/_stcore/health", process)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait(address, process):
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError("the demo ended by itself")
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(address)
