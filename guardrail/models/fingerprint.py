"""What tells one model from another, as plain values: a profile of one must not judge answers of another."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from guardrail.errors import ModelUnavailableError
from guardrail.models.chat_template import fingerprint_text

if TYPE_CHECKING:
    from torch import Tensor

    from guardrail.models.local import LocalModel

__all__ = ["ModelFingerprint", "difference_in", "fingerprint_model", "quantization_of"]

_HASH_DIGITS = 64
_WORD_BYTES = 8
# Words of a block: its products fit the processor's cache, and a GPU is not asked too often.
_BLOCK = 1 << 17


@dataclass(frozen=True, slots=True)
class ModelFingerprint:
    """A model, its template and how its weights are held.

    Attributes:
        name: What it is called; shown, not compared.
        weights: SHA-256 of every tensor's name, type, shape and checksums, which all of its values are in.
        chat_template: SHA-256 of the chat template, and behind it the arguments it is given, where there are
            any: under other ones a model gives other answers. None for a base model.
        dtype: Type the weights are read in.
        quantization: How they are quantized, or None.
    """

    name: str
    weights: str
    chat_template: str | None
    dtype: str
    quantization: str | None

    def as_plain(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


def fingerprint_model(model: "LocalModel") -> ModelFingerprint:
    """Fingerprint a model that is open: the same on every device and in every process.

    Every value has a part in it: one that changed always shows, several but for a rare coincidence. It is no
    defence against somebody who makes weights so that they collide.

    Raises:
        ModelUnavailableError: Some weights are not in memory.
    """
    template = model.tokenizer.chat_template
    hashed = sha256(str(template).encode()).hexdigest() if template else None
    arguments = fingerprint_text(getattr(model, "chat_template_kwargs", {}))
    return ModelFingerprint(
        name=model.name,
        weights=_digest(model.model.state_dict()),
        chat_template=f"{hashed} {arguments}" if hashed and arguments else hashed,
        dtype=str(model.model.dtype).removeprefix("torch."),
        quantization=quantization_of(model),
    )


def difference_in(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What keeps results from being gone on with, in words that follow their place; empty where nothing does.

    Args:
        before: What they were made with: a model's fingerprint and any other arguments, all by name. What an
            older file does not hold is as if it were None.
        now: What this run has.
    """
    # What explains the others goes first: of another dtype or model, the weights differ too, or the template.
    for name in dict.fromkeys(("dtype", "quantization", "weights", *now, *before)):
        one, other = before.get(name), now.get(name)
        if one == other or name == "name":
            continue
        if name not in before:
            return f"does not say what {name} it was made with, and this run has {_shown(other)}"
        if name == "weights":
            return (
                f"was made with model {before.get('name')} (weights {_shown(one)}), and this run has "
                f"{now.get('name')} (weights {_shown(other)})"
            )
        return f"was made with {name} {_shown(one)}, and this run has {_shown(other)}"
    return ""


def quantization_of(model: "LocalModel") -> str | None:
    """How a model's weights are quantized, in a word or two; None where they are not."""
    config = getattr(model.model.config, "quantization_config", None)
    if config is None:
        return None
    method = getattr(config, "quant_method", config)
    bits = [f" {bits}bit" for bits in (4, 8) if getattr(config, f"load_in_{bits}bit", False)]
    return getattr(method, "value", str(method)) + "".join(bits)


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    text = str(value)
    # Of a hash, what one can compare at a glance.
    return text[:8] if len(text) == _HASH_DIGITS and " " not in text else text


def _digest(state: dict[str, "Tensor"]) -> str:
    digest = sha256()
    factors: dict[str, Tensor] = {}
    # A tied head is in the state twice, and read once.
    done: dict[tuple[Any, ...], bytes] = {}
    for name, tensor in sorted(state.items()):
        if tensor.is_meta:
            raise ModelUnavailableError(
                f"The weights {name} are not in memory, so the model cannot be told from another. Open it "
                "without offloading: on a larger device, or quantized."
            )
        device = str(tensor.device)
        if device not in factors:
            factors[device] = _factors().to(device)
        place = (device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if place not in done:
            done[place] = _checksums(tensor, factors[device])
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(done[place])
    return digest.hexdigest()


def _checksums(tensor: "Tensor", factors: "Tensor") -> bytes:
    """Σ word · factor of each block, modulo 2⁶⁴: exact, so that no order of summing changes it.

    Reading all weights through SHA-256 would take six times as long on a CPU, and a copy of them from a GPU.
    """
    import torch

    raw = tensor.detach().contiguous().flatten().view(torch.uint8)
    if raw.storage_offset() % _WORD_BYTES:
        raw = raw.clone()
    whole = len(raw) - len(raw) % _WORD_BYTES
    words = raw[:whole].view(torch.int64)
    sums = torch.stack([(block * factors[: len(block)]).sum() for block in words.split(_BLOCK)])
    return f"{sums.tolist()} {raw[whole:].tolist()}\n".encode()


def _factors() -> "Tensor":
    """Odd factors without a pattern (SplitMix64): odd ones lose no change, different ones tell places."""
    import torch

    mixed = torch.arange(1, _BLOCK + 1) * -7046029254386353131
    mixed = (mixed ^ (mixed >> 30)) * -4658895280553007687
    mixed = (mixed ^ (mixed >> 27)) * -7723592293110705685
    return (mixed ^ (mixed >> 31)) | 1
