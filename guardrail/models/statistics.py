"""What logits say about each token: log-probability, entropy, and the normaliser that gives both."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

# Bounds the float32 copies made along the way, by cutting time. On a CPU they had best stay in its cache.
_CHUNK_ELEMENTS = 1 << 24
_CPU_CHUNK_ELEMENTS = 1 << 17


class TokenStatistics(NamedTuple):
    """Per response token, in nats, at temperature 1 (each B × T, float32 or float64)."""

    log_probabilities: Tensor
    entropies: Tensor
    log_normalizers: Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor in the precision of softmax, entropy and norms: float32, or float64 if it came in that."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def agree(tensor: Tensor, other: Tensor) -> bool:
    """Whether two results of the same computation differ by no more than rounding does in their dtype."""
    tolerance = {torch.float64: 1e-6, torch.float32: 1e-3}.get(tensor.dtype, 5e-2)
    tensor, other = at_least_float32(tensor), at_least_float32(other)
    # A NaN agrees with nothing.
    return bool((tensor - other).norm() <= tolerance * other.norm())


def token_statistics(logits: Iterator[Tensor], targets: Tensor) -> TokenStatistics:
    """Log-probability of each target and entropy of each distribution.

    Args:
        logits: Raw logits in consecutive pieces along time (each B × t × V).
        targets: The tokens that were taken (B × T).

    Returns:
        The statistics. Where logits hold NaN or +∞ they are NaN; −∞ (a masked token) has probability 0.
    """
    pieces: list[tuple[Tensor, Tensor, Tensor]] = []
    done = 0
    for piece in logits:
        limit = _CPU_CHUNK_ELEMENTS if piece.device.type == "cpu" else _CHUNK_ELEMENTS
        for part in piece.split(max(1, limit // (piece.shape[0] * piece.shape[2])), dim=1):
            raw = at_least_float32(part)
            normalizers = torch.logsumexp(raw, dim=-1)
            taken = targets[:, done : done + part.shape[1], None]
            chosen = raw.gather(-1, taken)[..., 0] - normalizers
            probabilities = (raw - normalizers[..., None]).exp_()
            # H = −Σ p log p = log Z − Σ p z
            entropies = normalizers - torch.linalg.vecdot(probabilities, raw)
            if entropies.isnan().any():
                # 0 · −∞ of a masked token is NaN; that of a broken model stays, because clamp keeps it.
                smallest = torch.finfo(raw.dtype).min
                entropies = normalizers - torch.linalg.vecdot(probabilities, raw.clamp(min=smallest))
            pieces.append((chosen, entropies, normalizers))
            done += part.shape[1]
    return TokenStatistics(*(torch.cat(column, dim=1) for column in zip(*pieces, strict=True)))
