"""What a model folder holds, looked at without loading it: whole safetensors, and nothing pickled."""

import json
import math
from collections.abc import Iterator
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

# What no model comes near.
_LARGEST = 2**40
_LAYERS = ("num_hidden_layers", "num_layers", "n_layer", "n_layers")
_POSITIVE = (*_LAYERS, "hidden_size", "max_position_embeddings", "num_attention_heads", "vocab_size")

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
    _check_config(folder / "config.json", config)
    files = _weight_files(folder, config, names)
    if not any(name in _TOKENIZER_NAMES or name.endswith(_TOKENIZER_SUFFIXES) for name in names):
        raise ModelReferenceError(
            f"{folder} holds no tokenizer (tokenizer.json): save the model's tokenizer there too, with its "
            "save_pretrained"
        )
    sizes = [size for file in files for size in _tensor_sizes(file)]
    _check_layers(folder / "config.json", config, len(sizes))
    return Checkpoint(
        folder=folder,
        config=config,
        weight_bytes=sum(file.stat().st_size for file in files),
        parameters=sum(sizes),
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


def _check_config(path: Path, config: dict[str, Any]) -> None:
    """See that what a model is opened by is of its kind: transformers takes it as it is, and fails later."""
    kinds: dict[str, tuple[type, str]] = {
        "model_type": (str, "the name of an architecture"),
        "architectures": (list, "a list of names"),
        "auto_map": (dict, "an object"),
        "quantization_config": (dict, "an object"),
        "text_config": (dict, "an object"),
    }
    for name, (kind, expected) in kinds.items():
        value = config.get(name)
        if value is not None and not isinstance(value, kind):
            raise _not_a_model(path, name, value, expected)
    if not all(isinstance(name, str) for name in config.get("architectures") or []):
        raise _not_a_model(path, "architectures", config["architectures"], "a list of names")
    for name, value in _numbers(config):
        if value != value:
            raise _not_a_model(path, name, value, "a number")
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise _not_a_model(path, name, value, f"at most {_LARGEST:,}")
    for part in (config, config.get("text_config") or {}):
        for name in _POSITIVE:
            value = part.get(name)
            if isinstance(value, int) and value < 1:
                raise _not_a_model(path, name, value, "at least 1")


def _check_layers(path: Path, config: dict[str, Any], tensors: int) -> None:
    """See that there are weights for all layers, before anybody begins to build them."""
    for part in (config, config.get("text_config") or {}):
        for name in _LAYERS:
            value = part.get(name)
            if isinstance(value, int) and value > tensors:
                raise _not_a_model(
                    path, name, value, f"no more than its weights, which are {tensors:,} tensors"
                )


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, int | float]]:
    if isinstance(value, int | float):
        yield name, value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _numbers(one, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for one in value:
            yield from _numbers(one, name)


def _not_a_model(path: Path, name: str, value: Any, expected: str) -> ModelUnavailableError:
    shown = repr(value)
    shown = shown if len(shown) <= 40 else f"{shown[:40]}…"
    return ModelUnavailableError(
        f"{path}: {name} is {shown}, and should be {expected}; mend it, or fetch the model again"
    )


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
    outside = [shard for shard in shards if not isinstance(shard, str) or shard != Path(shard).name]
    if outside:
        raise UnsafeModelError(
            f"{folder / found} names weights that are not files of this folder: {outside[0]!r}; fetch the "
            "model again"
        )
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


def _tensor_sizes(file: Path) -> list[int]:
    """How many values each tensor of a file has."""
    # Opening checks that the header and the file's length agree, so a truncated download is found here.
    try:
        with safe_open(file, framework="np") as tensors:
            # It has keys and is no mapping.
            return [math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys()]  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ModelUnavailableError(
            f"{file} is damaged or incomplete ({error}): delete it and fetch the model again"
        ) from error
