"""What a model folder holds, looked at without loading it: whole safetensors, and nothing pickled."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from guardrail.errors import ModelReferenceError, ModelUnavailableError, UnsafeModelError

__all__ = [
    "INDEX_NAME",
    "PICKLE_SUFFIXES",
    "WEIGHTS_NAME",
    "Checkpoint",
    "inspect_checkpoint",
    "refuse_pickles",
]

PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"

_TOKENIZER_NAMES = ("tokenizer.json", "tekken.json", "vocab.json", "vocab.txt")
_TOKENIZER_SUFFIXES = (".model", ".tiktoken")


class Checkpoint(NamedTuple):
    """A model folder that can be opened: its configuration, and how much its weights are.

    ``weight_bytes`` is the size of the safetensors files, ``parameters`` the number of stored values.
    """

    folder: Path
    config: dict[str, Any]
    weight_bytes: int
    parameters: int


def inspect_checkpoint(folder: Path) -> Checkpoint:
    """Check that a folder holds a whole model in safetensors, reading only headers.

    Raises:
        UnsafeModelError: Its weights are pickled.
        ModelReferenceError: It is not a model folder: no configuration, no weights or no tokenizer.
        ModelUnavailableError: Its weights or its configuration are damaged or incomplete.
    """
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise ModelReferenceError(f"{folder} cannot be read: {error.strerror}") from error
    config = _read_config(folder, names)
    files = _weight_files(folder, config, names)
    if not any(name in _TOKENIZER_NAMES or name.endswith(_TOKENIZER_SUFFIXES) for name in names):
        raise ModelReferenceError(
            f"{folder} holds no tokenizer (tokenizer.json): save the model's tokenizer there too, with its "
            "save_pretrained"
        )
    return Checkpoint(
        folder=folder,
        config=config,
        weight_bytes=sum(file.stat().st_size for file in files),
        parameters=sum(map(_count_values, files)),
    )


def refuse_pickles(where: str, names: list[str]) -> None:
    """Raise UnsafeModelError where ``names``, which hold no safetensors, hold pickled weights."""
    pickles = [name for name in names if name.endswith(PICKLE_SUFFIXES)]
    if pickles:
        shown = ", ".join(pickles[:3]) + (f" and {len(pickles) - 3} more" if len(pickles) > 3 else "")
        raise UnsafeModelError(
            f"{where} holds its weights only as pickles ({shown}), which can run code when opened: load it "
            "once with transformers in a place you trust, save it with save_pretrained (which writes "
            "safetensors), and name that folder"
        )


def _read_config(folder: Path, names: list[str]) -> dict[str, Any]:
    if "adapter_config.json" in names:
        # transformers would go and fetch the base model that the adapter names.
        raise ModelReferenceError(
            f"{folder} holds an adapter, not a whole model: merge it into its base model and save that"
        )
    if "config.json" not in names:
        ggufs = [name for name in names if name.lower().endswith(".gguf")]
        hint = f": name the file itself, such as {folder / ggufs[0]}" if ggufs else ""
        raise ModelReferenceError(f"{folder} is not a model folder: it has no config.json{hint}")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnavailableError(f"{folder / 'config.json'} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise ModelUnavailableError(f"{folder / 'config.json'} cannot be read: it is not a JSON object")
    return config


def _weight_files(folder: Path, config: dict[str, Any], names: list[str]) -> list[Path]:
    # A configuration may name its own weights file, and one of the names transformers accepts is a pickle.
    named = config.get("transformers_weights")
    if named is not None and not str(named).endswith((".safetensors", ".safetensors.index.json")):
        raise UnsafeModelError(f"{folder / 'config.json'} names weights that are not safetensors: {named!r}")
    candidates = [WEIGHTS_NAME, INDEX_NAME] if named is None else [str(named)]
    found = next((name for name in candidates if name in names), None)
    if found is None:
        refuse_pickles(str(folder), names)
        raise ModelReferenceError(f"{folder} holds no weights: neither {WEIGHTS_NAME} nor {INDEX_NAME}")
    if found.endswith(".safetensors"):
        return [folder / found]
    try:
        shards = sorted(set(json.loads((folder / found).read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelUnavailableError(f"{folder / found} cannot be read: {error!r}") from error
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    if missing:
        raise ModelUnavailableError(
            f"{folder} is incomplete: {found} names {len(missing)} files that are not there, such as "
            f"{missing[0]}; fetch the model again"
        )
    unsafe = [shard for shard in shards if not shard.endswith(".safetensors")]
    if unsafe:
        raise UnsafeModelError(f"{folder / found} names weights that are not safetensors: {unsafe[0]!r}")
    return [folder / shard for shard in shards]


def _count_values(file: Path) -> int:
    # Opening checks that the header and the file's length agree, so a truncated download is found here.
    try:
        with safe_open(file, framework="np") as tensors:
            # It has keys and is no mapping.
            return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelUnavailableError(
            f"{file} is damaged or incomplete ({error}): delete it and fetch the model again"
        ) from error
