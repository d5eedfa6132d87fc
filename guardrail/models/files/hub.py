"""Models from the Hugging Face hub: only safetensors, configuration and tokenizer, or a clear answer."""

import glob
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from guardrail.errors import GuardrailError, ModelReferenceError, ModelUnavailableError
from guardrail.models.files.checkpoint import INDEX_NAME, WEIGHTS_NAME, inspect_checkpoint, refuse_pickles
from guardrail.models.files.hf_logging import quiet_hub
from guardrail.models.files.reference import ModelReference
from guardrail.utils.progress import ProgressCallback, in_background, report

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

__all__ = ["cached_hub_folder", "hub_folder"]


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
