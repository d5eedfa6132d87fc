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
        typer.Option(help="Port; the first free one from 8501 on if not given.", min=1, max=65535),
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(
            help="Another host name that the page answers to, such as that of a proxy before it. It answers "
            "to localhost, 127.0.0.1 and ::1, and to no name that is not given: any site could make its own "
            "lead here.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    headless: Annotated[bool, typer.Option("--headless", help="Open no browser.")] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="Built-in name, folder, .gguf file or hub id.", show_default=False
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option("--policy", "-p", help="A policy's file, or builtin:NAME.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder for queues, labels and profiles; the user's data folder if not given.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Open the demo: chat, compare, change the policy, calibrate, review. Reachable from this machine only.

    Ctrl-C ends it. What a policy names by a relative path, such as a queue, lies in the data folder.
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
    """The policy's name for a process of another working directory; its mistakes are told before it opens."""
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
    """A host name, without brackets; what is more than one is refused."""
    bare = name.strip().lower()
    try:
        parts = urlsplit(f"//[{bare}]" if bare.count(":") > 1 and not bare.startswith("[") else f"//{bare}")
        is_one = parts.hostname and parts.port is None and not (parts.path or parts.query or parts.fragment)
    except ValueError:
        is_one = False
    if not is_one or not re.fullmatch(r"\[?[\w.:-]+\]?", bare):
        raise OptionError(f"--host {name!r} is no host name; give it alone, such as demo.example.com.")
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
        f"Port {tried[0]} of {_HOST} is taken, or not yours to use. Choose another: guardrail demo --port N"
    )


def _folder(data: Path | None) -> Path:
    import platformdirs

    folder = (data or platformdirs.user_data_path("guardrail") / "demo").expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionError(f"The folder {folder} cannot be made: {error.strerror}.") from error
    return folder


def _run(app: Path, port: int, *, headless: bool) -> None:
    # Little that is made while modules are imported is garbage, and a visitor would wait for the search.
    gc.disable()
    # It takes seconds: the server starts, and the page is opened and read, meanwhile.
    Thread(target=_open_model, daemon=True).start()
    from streamlit.web.cli import main as streamlit

    os.environ["GUARDRAIL_DEMO_OPENS"] = "" if headless else "yes"
    # By name: this room knows of the demo only that it may be installed. Who comes first sees this page.
    import_module("demo_app.views.chat")
    sys.argv = [
        "streamlit",
        "run",
        # The pages, behind what refuses other host names.
        str(app.with_name("server.py")),
        f"--server.address={_HOST}",
        f"--server.port={port}",
        # The page is opened by our own server. Where Streamlit would, it also offers visitors to write files
        # of its own into this machine's folders.
        "--server.headless=true",
        # Of sockets, Streamlit looks at this by itself.
        *(f"--server.allowedHosts={name}" for name in import_module("demo_app.hosts").own_hosts()),
        # It would look at the files of thousands of modules, after every click.
        "--server.fileWatcherType=none",
        "--browser.gatherUsageStats=false",
    ]
    streamlit()


def _open_model() -> None:
    try:
        import_quickly("guardrail.models.local")
    finally:
        # Before the model is opened, which may begin with a download of many minutes.
        gc.enable()
    import_module("demo_app.warm_up").open_model()
