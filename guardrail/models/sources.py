"""From a model's name to a folder on this machine that transformers can open. Imports no torch by itself."""

import hashlib
import re
from pathlib import Path

from guardrail.errors import ModelReferenceError
from guardrail.models.builtin import BUILTIN_MODELS
from guardrail.models.checkpoint import inspect_checkpoint
from guardrail.models.fetch import fetch_gguf
from guardrail.models.hub import cached_hub_folder, hub_folder
from guardrail.models.progress import ProgressCallback
from guardrail.models.reference import ModelReference
from guardrail.models.store import obtain, stored

__all__ = ["builtin_source", "is_newer", "local_folder", "present_folder"]


def is_newer(reference: ModelReference, made: Path) -> bool:
    """Whether a file of a model was written, replaced or renamed since a file was made with it.

    Args:
        reference: The model; one that is no folder or file of this machine never is.
        made: What was made, if it is there.
    """
    if reference.path is None or not made.exists():
        return False
    files = [*reference.path.iterdir()] if reference.path.is_dir() else [reference.path]
    at = made.stat().st_mtime_ns
    return any(max(one.st_mtime_ns, one.st_ctime_ns) >= at for one in map(Path.stat, files))


def local_folder(
    reference: ModelReference, progress: ProgressCallback | None = None, *, with_code: bool = False
) -> Path:
    """The folder that holds a model's safetensors and tokenizer, fetched or converted where needed.

    Args:
        reference: Which model.
        progress: Told how far fetching and converting have come.
        with_code: For a hub model, fetch its Python files too.

    Raises:
        ModelReferenceError: The reference leads to no usable model; UnsafeModelError where opening it would
            mean unpickling.
        ModelUnavailableError: The model could not be fetched, converted or verified.
    """
    match reference.kind:
        case "builtin":
            folder = _builtin_folder(reference.name, progress)
        case "gguf":
            folder = _gguf_folder(_path(reference), progress)
        case "hub":
            folder = hub_folder(reference, progress, with_code=with_code)
        case "folder":
            folder = _path(reference)
    inspect_checkpoint(folder)
    return folder


def present_folder(reference: ModelReference) -> Path | None:
    """The folder ``local_folder`` would return without fetching or converting anything, or None."""
    match reference.kind:
        case "builtin":
            name, source = reference.name, builtin_source(reference.name)
        case "gguf":
            name, source = _gguf_name(_path(reference)), _gguf_source(_path(reference))
        case "hub":
            folder = cached_hub_folder(reference)
            if folder is not None:
                inspect_checkpoint(folder)
            return folder
        case "folder":
            inspect_checkpoint(_path(reference))
            return reference.path
    model = stored(name)
    if model is None or model.damage is not None or model.source != source:
        return None
    return model.folder


def builtin_source(name: str) -> dict[str, str | int]:
    """What the cache remembers of a built-in model's origin."""
    return {"kind": "builtin", "sha256": BUILTIN_MODELS[name].file_sha256}


def _builtin_folder(name: str, progress: ProgressCallback | None) -> Path:
    def build(folder: Path, scratch: Path) -> None:
        from guardrail.models.convert import convert_gguf

        convert_gguf(fetch_gguf(BUILTIN_MODELS[name], scratch, progress), folder, scratch, progress)

    return obtain(name, builtin_source(name), build, progress)


def _gguf_folder(path: Path, progress: ProgressCallback | None) -> Path:
    def build(folder: Path, scratch: Path) -> None:
        from guardrail.models.convert import convert_gguf

        convert_gguf(path, folder, scratch, progress)

    return obtain(_gguf_name(path), _gguf_source(path), build, progress)


def _gguf_name(path: Path) -> str:
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem)[:80].lstrip(".")
    return f"gguf-{stem}-{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"


def _gguf_source(path: Path) -> dict[str, str | int]:
    # Not a hash of the content: reading many gigabytes at every start would cost more than the opening.
    try:
        status = path.stat()
    except OSError as error:
        raise ModelReferenceError(f"{path} cannot be read: {error.strerror}") from error
    return {"kind": "gguf", "path": str(path), "bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def _path(reference: ModelReference) -> Path:
    assert reference.path is not None  # noqa: S101  (folders and GGUF files are made by parse with a path)
    return reference.path
