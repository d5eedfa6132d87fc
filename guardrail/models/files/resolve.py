"""From a model's name to a folder that transformers can open; the cache of fetched models. No torch."""

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import platformdirs
from filelock import FileLock, Timeout

from guardrail.errors import ModelReferenceError, ModelUnavailableError
from guardrail.models.files.checkpoint import inspect_checkpoint
from guardrail.models.files.downloads import cached_hub_folder, fetch_gguf, hub_folder
from guardrail.models.files.reference import BUILTIN_MODELS, ModelReference
from guardrail.utils.files import publish_folder, write_whole
from guardrail.utils.threads import ProgressCallback, report

__all__ = [
    "MANIFEST",
    "Build",
    "StoredModel",
    "builtin_source",
    "is_newer",
    "local_folder",
    "models_root",
    "obtain",
    "present_folder",
    "stored",
    "stored_models",
]


MANIFEST = "guardrail-model.json"
_SCHEMA = 1

Build = Callable[[Path, Path], None]
"""Writes a model's files into the first folder; the second is scratch space that is deleted afterwards."""


class StoredModel(NamedTuple):
    """A model folder of the cache.

    ``source`` says what it was made from, ``size`` is in bytes, and ``damage`` says what is wrong with it,
    or is None for a whole one.
    """

    name: str
    folder: Path
    source: dict[str, str | int]
    size: int
    damage: str | None


def models_root() -> Path:
    """The folder that holds the models: under ``GUARDRAIL_CACHE_DIR``, or the user's cache folder."""
    configured = os.environ.get("GUARDRAIL_CACHE_DIR", "").strip()
    base = Path(configured).expanduser() if configured else platformdirs.user_cache_path("guardrail")
    return base.absolute() / "models"


def stored(name: str) -> StoredModel | None:
    """What the cache holds under this name, or None. Compares sizes with the manifest, reads no weights."""
    folder = models_root() / name
    if not folder.is_dir():
        return None
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["schema"] != _SCHEMA:
            return StoredModel(name, folder, {}, 0, "it was written by another version of guardrail")
        files: dict[str, int] = manifest["files"]
        source: dict[str, str | int] = manifest["source"]
    except (OSError, ValueError, KeyError, TypeError):
        return StoredModel(name, folder, {}, 0, f"{MANIFEST} is missing or cannot be read")
    return StoredModel(name, folder, source, sum(files.values()), _damage(folder, files))


def stored_models() -> list[StoredModel]:
    """Everything in the cache, sorted by name; damaged models too."""
    root = models_root()
    if not root.is_dir():
        return []
    names = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and entry.name[0] != ".")
    return [model for model in map(stored, names) if model is not None]


def obtain(
    name: str, source: Mapping[str, str | int], build: Build, progress: ProgressCallback | None = None
) -> Path:
    """The folder of a model, built first where it is missing, damaged or made from another source.

    Args:
        name: Folder name of the model in the cache.
        source: What the model is made from; a stored model with another source is replaced.
        build: Called at most once, with no other process building the same model.
        progress: Told when another process has to be waited for.

    Raises:
        ModelUnavailableError: The cache cannot be written. What ``build`` raises passes through.
    """
    if (folder := _ready(name, source)) is not None:
        return folder
    try:
        with _locked(name, progress):
            _sweep(name)
            # Another process may have built it while this one waited.
            return _ready(name, source) or _build(name, source, build)
    except OSError as error:
        raise ModelUnavailableError(
            f"the model cache {models_root()} cannot be written: {error}; make room or rights there, or set "
            "GUARDRAIL_CACHE_DIR to another folder"
        ) from error


def _ready(name: str, source: Mapping[str, str | int]) -> Path | None:
    model = stored(name)
    if model is None or model.damage is not None or model.source != dict(source):
        return None
    return model.folder


def _build(name: str, source: Mapping[str, str | int], build: Build) -> Path:
    target = models_root() / name
    site = _building(name) / uuid.uuid4().hex
    made, scratch, replaced = site / "model", site / "scratch", site / "replaced"
    made.mkdir(parents=True)
    scratch.mkdir()
    try:
        build(made, scratch)
        files = {
            path.relative_to(made).as_posix(): path.stat().st_size
            for path in sorted(made.rglob("*"))
            if path.is_file()
        }
        manifest = {"schema": _SCHEMA, "name": name, "source": dict(source), "files": files}
        write_whole(made / MANIFEST, json.dumps(manifest, indent=2) + "\n", ModelUnavailableError)
        if target.exists():
            target.rename(replaced)
        publish_folder(made, target)
    finally:
        shutil.rmtree(site, ignore_errors=True)
    return target


def _damage(folder: Path, files: Mapping[str, int]) -> str | None:
    for name, size in files.items():
        try:
            actual = (folder / name).stat().st_size
        except OSError:
            return f"{name} is missing"
        if actual != size:
            return f"{name} has {actual:,} bytes instead of {size:,}"
    return None


def _building(name: str) -> Path:
    return models_root() / ".building" / name


def _sweep(name: str) -> None:
    # Under the lock, so whatever lies here belongs to a build that died.
    shutil.rmtree(_building(name), ignore_errors=True)


@contextmanager
def _locked(name: str, progress: ProgressCallback | None) -> Iterator[None]:
    locks = models_root() / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(locks / f"{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report(progress, f"waiting for another process that is fetching {name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


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
        from guardrail.models.files.gguf import convert_gguf

        convert_gguf(fetch_gguf(BUILTIN_MODELS[name], scratch, progress), folder, scratch, progress)

    return obtain(name, builtin_source(name), build, progress)


def _gguf_folder(path: Path, progress: ProgressCallback | None) -> Path:
    def build(folder: Path, scratch: Path) -> None:
        from guardrail.models.files.gguf import convert_gguf

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
