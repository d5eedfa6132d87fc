"""``guardrail demo``: a page in the browser that shows a model's answers with their confidence."""

import gc
import os
import re
import socket
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Annotated
from urllib.parse import urlsplit

import typer

from guardrail.errors import MissingDependencyError, OptionError
from guardrail.models.files.reference import ModelReference
from guardrail.models.replay.transformers_internals import import_quickly

_HOST = "127.0.0.1"
_PORT = 8501


def demo(
    port: Annotated[
        int | None,
        typer.Option(help="Port; by default the first free one from 8501.", min=1, max=65535),
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(
            help="Another host name to answer to, such as that of a proxy in front. Without it only "
            "localhost, 127.0.0.1 and ::1 are allowed: any site can point its own name at this machine.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    headless: Annotated[bool, typer.Option("--headless", help="Do not open a browser.")] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="Built-in name, folder, .gguf file or hub id.", show_default=False
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option("--policy", "-p", help="A policy file, or builtin:NAME.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder for queues, labels and profiles; by default the user's data folder.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Open the demo: chat, compare, edit the policy, calibrate, review. Reachable from this machine only.

    Ctrl-C ends it. Relative paths in a policy, such as a queue's, start from the data folder.
    """
    app = _app()
    given = {
        "GUARDRAIL_DEMO_POLICY": _policy(policy),
        "GUARDRAIL_DEMO_MODEL": _model(policy, model),
        "GUARDRAIL_DEMO_HOSTS": ",".join(map(_host, host or ())),
    }
    chosen = _free_port(port)
    folder = _folder(data)
    os.environ.update({name: value for name, value in given.items() if value is not None})
    os.environ["GUARDRAIL_DEMO_DATA"] = str(folder)
    os.chdir(folder)
    _run(app, chosen, headless=headless)


def _app() -> Path:
    spec = find_spec("demo_app")
    if find_spec("streamlit") is None or spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError('The demo needs Streamlit: pip install "guardrail-llm[demo]"')
    return Path(spec.submodule_search_locations[0]) / "app.py"


def _policy(policy: str | None) -> str | None:
    """The policy's name, valid from another working directory; its mistakes are reported before the start."""
    if policy is None:
        return None
    from guardrail.policy.load import load_policy
    from guardrail.policy.yaml_document import BUILTIN

    load_policy(policy)
    return policy if policy.startswith(BUILTIN) else str(Path(policy).absolute())


def _model(policy: str | None, model: str | None) -> str | None:
    named = model
    if named is None and policy is not None:
        from guardrail.policy.load import load_policy

        named = load_policy(policy).model
    return None if named is None else str(ModelReference.parse(named))


def _host(name: str) -> str:
    """Check that the text is a single host name, and return it without brackets."""
    bare = name.strip().lower()
    try:
        parts = urlsplit(f"//[{bare}]" if bare.count(":") > 1 and not bare.startswith("[") else f"//{bare}")
        is_one = parts.hostname and parts.port is None and not (parts.path or parts.query or parts.fragment)
    except ValueError:
        is_one = False
    if not is_one or not re.fullmatch(r"\[?[\w.:-]+\]?", bare):
        raise OptionError(f"--host {name!r} is not a host name; give it alone, such as demo.example.com.")
    return str(parts.hostname)


def _free_port(port: int | None) -> int:
    tried = range(_PORT, _PORT + 100) if port is None else [port]
    for one in tried:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, one))
            except OSError:
                continue
            return one
    raise OptionError(
        f"Port {tried[0]} of {_HOST} is taken or not permitted. Choose another: guardrail demo --port N"
    )


def _folder(data: Path | None) -> Path:
    import platformdirs

    folder = (data or platformdirs.user_data_path("guardrail") / "demo").expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"The folder {folder} cannot be created: {error.strerror}.") from error
    return folder


def _run(app: Path, port: int, *, headless: bool) -> None:
    # Imports leave little garbage, and the first visitor would wait for its collection.
    gc.disable()
    # Takes seconds; meanwhile the server starts and the browser loads the page.
    Thread(target=_open_model, daemon=True).start()
    from streamlit.web.cli import main as streamlit

    os.environ["GUARDRAIL_DEMO_OPENS"] = "" if headless else "yes"
    # By name, because the CLI does not depend on the demo; this page is shown first.
    import_module("demo_app.views.chat")
    sys.argv = [
        "streamlit",
        "run",
        # The pages, behind the check of host names.
        str(app.with_name("server.py")),
        f"--server.address={_HOST}",
        f"--server.port={port}",
        # server.py opens the page. If Streamlit did, it would also offer visitors to write its own files to
        # this machine.
        "--server.headless=true",
        # Streamlit checks the hosts of sockets itself.
        *(f"--server.allowedHosts={name}" for name in import_module("demo_app.settings").own_hosts()),
        # The watcher would look at thousands of module files after every click.
        "--server.fileWatcherType=none",
        "--browser.gatherUsageStats=false",
    ]
    streamlit()


def _open_model() -> None:
    try:
        import_quickly("guardrail.models.local")
    finally:
        # Before the model is opened, which may start with a long download.
        gc.enable()
    import_module("demo_app.model_pool").open_model()
