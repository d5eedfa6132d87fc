"""``guardrail serve``: the guard behind the HTTP interface of OpenAI's chat completions."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from guardrail.cli.common import progress_bar, readable
from guardrail.errors import MissingDependencyError
from guardrail.models.replay.transformers_internals import import_quickly

_UPSTREAM = "Another server that generates"
_ACCESS = "Access"
_LIMITS = "Limits"
_NEEDED = ("fastapi", "httpx", "langchain_core", "llguidance", "pydantic_settings", "uvicorn")


def serve(
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy",
            "-p",
            help="A policy file, or builtin:NAME; builtin:default if not given.",
            show_default=False,
            callback=readable,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Built-in name, folder, .gguf file or hub id; the policy's own if not given.",
            show_default=False,
            callback=readable,
        ),
    ] = None,
    upstream: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="An OpenAI-compatible server that generates, such as http://127.0.0.1:8001/v1; the model "
            "here then reads and scores its answers.",
            show_default=False,
            rich_help_panel=_UPSTREAM,
        ),
    ] = None,
    upstream_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name of the model there; the only one that it serves if not given.",
            show_default=False,
            rich_help_panel=_UPSTREAM,
        ),
    ] = None,
    upstream_weights: Annotated[
        str | None,
        typer.Option(
            metavar="same|NAME",
            help="Whose weights it runs: same as the model here, or the name by which a profile knows them. "
            "Undeclared if not given, and no profile holds.",
            show_default=False,
            rich_help_panel=_UPSTREAM,
        ),
    ] = None,
    upstream_api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the key for it; or GUARDRAIL_UPSTREAM_API_KEY.",
            show_default=False,
            rich_help_panel=_UPSTREAM,
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on; 127.0.0.1 if not given. One that other machines reach needs keys.",
            show_default=False,
            rich_help_panel=_ACCESS,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            help="Port; 8000 if not given, 0 for a free one.", show_default=False, rich_help_panel=_ACCESS
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the keys that clients may use, one a line.",
            show_default=False,
            rich_help_panel=_ACCESS,
        ),
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Let anybody who reaches it ask.", rich_help_panel=_ACCESS),
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A name by which the server is addressed, such as that of a proxy in front. Can be given "
            "again.",
            metavar="NAME",
            show_default=False,
            rich_help_panel=_ACCESS,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Most waiting requests that are answered together; 8 if not given.",
            show_default=False,
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    max_body_bytes: Annotated[
        int | None,
        typer.Option(help="Largest body; 1000000 if not given.", show_default=False, rich_help_panel=_LIMITS),
    ] = None,
    max_prompt_tokens: Annotated[
        int | None,
        typer.Option(
            help="Longest prompt; what the model can read if not given.",
            show_default=False,
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    max_output_tokens: Annotated[
        int | None,
        typer.Option(
            help="Longest answer that may be asked for; 1024 if not given.",
            show_default=False,
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    max_waiting: Annotated[
        int | None,
        typer.Option(
            help="Most requests that run and wait at once; 64 if not given.",
            show_default=False,
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    request_timeout: Annotated[
        float | None,
        typer.Option(
            help="Seconds for a request, its turn included; 120 if not given.",
            show_default=False,
            rich_help_panel=_LIMITS,
        ),
    ] = None,
    telemetry: Annotated[
        bool | None,
        typer.Option(
            "--telemetry/--no-telemetry",
            help="Record metrics, for GET /metrics, and spans, sent where OTEL_EXPORTER_OTLP_ENDPOINT says; "
            "where it is installed, if not given.",
            show_default=False,
        ),
    ] = None,
    keep_alive: Annotated[
        float | None,
        typer.Option(
            help="Seconds after which a silent stream sends a comment; 10 if not given.",
            show_default=False,
            rich_help_panel=_LIMITS,
        ),
    ] = None,
) -> None:
    """Serve the guard to clients of OpenAI's API: POST /v1/chat/completions. Ctrl-C or SIGTERM ends it.

    Each option is also an environment variable, such as GUARDRAIL_PORT; --allowed-host is
    GUARDRAIL_ALLOWED_HOSTS, with commas between names.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise MissingDependencyError(
            f'The server needs {", ".join(missing)}: pip install "guardrail-llm[serve]"'
        )
    from guardrail.server.server_settings import read_settings

    given = {
        "policy": policy,
        "model": model,
        "upstream": upstream,
        "upstream_model": upstream_model,
        "upstream_weights": upstream_weights,
        "upstream_api_key_file": upstream_api_key_file,
        "host": host,
        "port": port,
        "api_key_file": api_key_file,
        "insecure": insecure or None,
        "allowed_hosts": ",".join(allowed_host) if allowed_host else None,
        "batch_size": batch_size,
        "max_body_bytes": max_body_bytes,
        "max_prompt_tokens": max_prompt_tokens,
        "max_output_tokens": max_output_tokens,
        "max_waiting": max_waiting,
        "request_timeout": request_timeout,
        "telemetry": telemetry,
        "keep_alive": keep_alive,
    }
    settings = read_settings(given)
    import_quickly("guardrail.server.uvicorn_server")
    from guardrail.server.uvicorn_server import run_server

    run_server(settings, progress_bar)
