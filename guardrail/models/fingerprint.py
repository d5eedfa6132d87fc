"""What tells one model from another, as plain values: a profile of one must not judge answers of another."""

from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from guardrail.models.local import LocalModel

__all__ = ["ModelFingerprint", "fingerprint_model", "quantization_of"]

# Values read of each tensor: reading all of a large model would take longer than answering.
_SAMPLED = 256


@dataclass(frozen=True, slots=True)
class ModelFingerprint:
    """A model, its template and how its weights are held.

    Attributes:
        name: What it is called; shown, not compared.
        weights: SHA-256 of every tensor's name, shape and evenly spaced values of it.
        chat_template: SHA-256 of the chat template; None for a base model.
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
    """Fingerprint a model that is open."""
    template = model.tokenizer.chat_template
    digest = sha256()
    for name, tensor in sorted(model.model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(_sample(tensor))
    return ModelFingerprint(
        name=model.name,
        weights=digest.hexdigest(),
        chat_template=sha256(str(template).encode()).hexdigest() if template else None,
        dtype=str(model.model.dtype).removeprefix("torch."),
        quantization=quantization_of(model),
    )


def quantization_of(model: "LocalModel") -> str | None:
    """How a model's weights are quantized, in a word or two; None where they are not."""
    config = getattr(model.model.config, "quantization_config", None)
    if config is None:
        return None
    method = getattr(config, "quant_method", config)
    bits = [f" {bits}bit" for bits in (4, 8) if getattr(config, f"load_in_{bits}bit", False)]
    return getattr(method, "value", str(method)) + "".join(bits)


def _sample(tensor: "Tensor") -> bytes:
    flat = tensor.detach().flatten()
    step = max(1, len(flat) // _SAMPLED)
    # float64 holds every value of the other types exactly.
    return bytes(flat[::step].double().cpu().numpy().tobytes())
