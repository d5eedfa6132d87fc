"""``guardrail models``: list, fetch and locate models."""

import json
from typing import Annotated, Any

import typer

from guardrail.cli.common import AsJson, print_file, print_json, progress_bar, say
from guardrail.errors import ModelUnavailableError
from guardrail.models.files.reference import BUILTIN_MODELS, DEFAULT_MODEL, ModelReference

__all__ = ["app"]

app = typer.Typer(help="List, fetch and locate the models on this machine.", no_args_is_help=True)

Name = Annotated[
    str, typer.Argument(help="Built-in name, hub id (owner/name, owner/name@revision), folder or .gguf file.")
]


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the built-in models and those converted on this machine."""
    rows = _rows()
    if as_json:
        print_json(rows, indent=2)
        return
    lines = [("NAME", "LICENCE", "SIZE", "STATE", "WHERE")]
    for row in rows:
        name = f"{row['name']} (default)" if row["name"] == DEFAULT_MODEL else row["name"]
        size = row["bytes"] if row["bytes"] is not None else row["download_bytes"]
        lines.append(
            (name, row["licence"] or "-", f"{size / 1e6:,.0f} MB", row["state"], row["folder"] or "-")
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        # A Rich table would wrap paths to fit the terminal.
        say("  ".join(map(str.ljust, line, widths)).rstrip())


@app.command()
def pull(name: Name = DEFAULT_MODEL, as_json: AsJson = False) -> None:
    """Download a model and convert it if necessary, so that it opens at once. Prints its folder."""
    from guardrail.models.files.resolve import local_folder

    reference = ModelReference.parse(name)
    with progress_bar() as progress:
        folder = local_folder(reference, progress)
    written = json.dumps({"model": str(reference), "folder": str(folder)}) if as_json else str(folder)
    print_file(f"{written}\n")


@app.command()
def path(name: Name = DEFAULT_MODEL) -> None:
    """Print the folder of a model that is already on this machine. Downloads nothing."""
    from guardrail.models.files.resolve import present_folder

    reference = ModelReference.parse(name)
    folder = present_folder(reference)
    if folder is None:
        raise ModelUnavailableError(
            f"{reference} is not on this machine yet. Fetch it with: guardrail models pull {reference}"
        )
    print_file(f"{folder}\n")


def _rows() -> list[dict[str, Any]]:
    from guardrail.models.files.resolve import builtin_source, stored, stored_models

    rows: list[dict[str, Any]] = []
    for model in BUILTIN_MODELS.values():
        here = stored(model.name)
        state = "not fetched" if here is None else "ready"
        if here is not None and (here.damage is not None or here.source != builtin_source(model.name)):
            state = f"to be fetched again: {here.damage or 'made from an older file'}"
        rows.append(
            {
                "name": model.name,
                "kind": "builtin",
                "description": model.description,
                "licence": model.licence,
                "parameters": model.parameters,
                "download_bytes": model.wheel_bytes,
                "state": state,
                "bytes": here.size if here else None,
                "folder": str(here.folder) if here else None,
            }
        )
    rows.extend(
        {
            "name": str(model.source.get("path", model.name)),
            "kind": str(model.source.get("kind", "unknown")),
            "description": "converted on this machine",
            "licence": None,
            "parameters": None,
            "download_bytes": None,
            "state": f"damaged: {model.damage}" if model.damage else "ready",
            "bytes": model.size,
            "folder": str(model.folder),
        }
        for model in stored_models()
        if model.name not in BUILTIN_MODELS
    )
    return rows
