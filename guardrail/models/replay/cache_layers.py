"""Layers of a key–value cache that keep, and read again, what a truncated backward looks back at."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from guardrail.models.replay.transformers_internals import CacheLayerMixin, DynamicSlidingWindowLayer

__all__ = ["ReplayLayer", "RetainingSlidingLayer"]


class RetainingSlidingLayer(DynamicSlidingWindowLayer):
    """A sliding-window layer that keeps what a replay of the last columns will look back at.

    The window itself is what attention sees, as in the layer it replaces; behind it, ``extra`` more columns
    of the prompt are kept, and no column of the response is dropped.
    """

    def __init__(self, sliding_window: int, extra: int) -> None:
        super().__init__(sliding_window)
        self.extra = extra

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Keep these, and return what attention sees of all that was kept."""
        count = key_states.shape[-2]
        self.cumulative_length += count
        if self.keys is None or self.values is None:
            self.lazy_initialization(key_states, value_states)
            behind = self.sliding_window - 1 + self.extra
            # A slice would hold on to the memory of the whole prompt.
            self.keys = key_states[..., -behind:, :].clone()
            self.values = value_states[..., -behind:, :].clone()
            return key_states, value_states
        self.keys = keys = torch.cat([self.keys, key_states], dim=-2)
        self.values = values = torch.cat([self.values, value_states], dim=-2)
        visible = self.sliding_window - 1 + count
        return keys[..., -visible:, :], values[..., -visible:, :]


class _LeadBack(torch.autograd.Function):
    """The kept keys (or values) of all columns; their gradient at the suffix goes to the fresh ones."""

    @staticmethod
    def forward(ctx: Any, fresh: Tensor, kept: Tensor) -> Tensor:
        ctx.count = fresh.shape[-2]
        return kept.view_as(kept)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0][..., -ctx.count :, :], None


_lead_back: Callable[..., Tensor] = _LeadBack.apply


class ReplayLayer(CacheLayerMixin):
    """One layer of a filled cache, read again from column ``start`` on."""

    def __init__(self, keys: Tensor, values: Tensor, start: int, offset: int, sliding: bool) -> None:
        # transformers does not annotate it.
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys, self.values = keys, values
        self.start, self.offset, self.length = start, offset, keys.shape[-2]
        self.is_sliding = sliding
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: the layer is filled."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Return all that is kept, of which these are the last columns."""
        return _lead_back(key_states, self.keys), _lead_back(value_states, self.values)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """How many columns there are, and how many there were before them."""
        return self.length, self.offset

    def get_seq_length(self) -> int:
        """The column that is run next."""
        return self.start

    def get_max_length(self) -> int:
        """No bound."""
        return -1
