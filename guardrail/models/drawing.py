"""Drawing tokens, each answer with a generator of its own.

transformers draws with the process's one generator. Of two models that answer at the same time, each would
seed it for the other, and neither could repeat its answer.
"""

import torch
from torch import Tensor
from transformers import LogitsProcessor, TemperatureLogitsWarper, TopPLogitsWarper

from guardrail.models.sampling import Sampling

__all__ = ["drawn"]


def drawn(sampling: Sampling) -> list[LogitsProcessor]:
    """What makes greedy decoding draw; nothing where it is greedy decoding that is wanted.

    Args:
        sampling: How to draw. Without a seed, the process's generator goes on.
    """
    if not sampling.temperature:
        return []
    narrowed: list[LogitsProcessor] = [TemperatureLogitsWarper(float(sampling.temperature))]
    if sampling.top_p < 1:
        narrowed.append(TopPLogitsWarper(sampling.top_p))
    return [*narrowed, _Draw(sampling.seed)]


class _Draw(LogitsProcessor):
    """Leaves one token of each row: one drawn from the row's distribution."""

    def __init__(self, seed: int | None) -> None:
        self._seed = seed
        self._generator: torch.Generator | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Zero for the token drawn, minus infinity for all others."""
        if self._generator is None and self._seed is not None:
            self._generator = torch.Generator(scores.device).manual_seed(self._seed)
        token = torch.multinomial(scores.softmax(dim=-1), num_samples=1, generator=self._generator)
        return torch.full_like(scores, -torch.inf).scatter_(1, token, 0.0)
