"""The user's cache of models that were fetched or converted here.

A model is built in a temporary folder of the same file system and renamed into place when it is whole, so
the cache holds a model completely or not at all. One build at a time per model, over all processes.
"""

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import platformdirs
from filelock import FileLock, Timeout

from guardrail.errors import ModelUnavailableError
from guardrail.models.progress import ProgressCallback, report
from guardrail.utils.whole_files import publish_folder, write_whole

__all__ = ["MANIFEST", "Build", "StoredModel", "models_root", "obtain", "stored", "stored_models"]

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
