"""Generation controls other than sampling options: drawing, tools, streaming, cancellation, constraints."""

from asyncio import CancelledError
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria, TemperatureLogitsWarper, TopPLogitsWarper

from guardrail.models.sampling import Sampling

if TYPE_CHECKING:
    from guardrail.models.runnable_model import RunnableModel

__all__ = ["NO_CONTROLS", "CancelledError", "GenerationControls", "GoesOn", "Tools", "drawn"]


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


Tools = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class GenerationControls:
    """Tools, streaming, cancellation and constraints of a generation. The default is none, at no cost.

    Attributes:
        tools: Functions that the chat template shows to the model, each as ``{"type": "function",
            "function": {"name", "description", "parameters"}}``.
        on_text: Told of the text while it grows, by the thread that generates; for one prompt only. The
            pieces together are the text of the trace. What could still turn out to be part of a stop string,
            or of a character that is not whole, waits.
        goes_on: Asked after every token. Where it says no, ``CancelledError`` is raised, which is no
            ``Exception``: nothing takes it for a failure of the model.
        processor: Makes what changes the logits of one prompt's answer; see
            :mod:`guardrail.models.constrained_decoding`.
        chat_template_kwargs: Arguments of the chat template, over those of the model.
    """

    tools: Tools = ()
    on_text: Callable[[str], None] | None = None
    goes_on: Callable[[], bool] | None = None
    processor: "Callable[[RunnableModel], LogitsProcessor] | None" = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_for_one(self) -> bool:
        """Whether it can only be given with a single prompt."""
        return self.on_text is not None or self.processor is not None


NO_CONTROLS = GenerationControls()


class GoesOn(StoppingCriteria):
    """Gives up a generation that nobody waits for any more."""

    def __init__(self, goes_on: Callable[[], bool]) -> None:
        self.goes_on = goes_on

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Raise if nobody waits; ends no row by itself."""
        if not self.goes_on():
            raise CancelledError
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
