"""Keys and values: kept long enough to be replayed, and replayed without a copy.

The suffix of a sequence is run a second time with gradients. Its keys and values are in the cache already,
with the same numbers, so the replay reads the cache where it lies; only the gradients of the suffix's own
keys and values are led back to where they came from.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer


class _RetainingSlidingLayer(DynamicSlidingWindowLayer):
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
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        first = self.cumulative_length == 0
        count = key_states.shape[-2]
        self.cumulative_length += count
        keys = torch.cat([self.keys, key_states], dim=-2)
        values = torch.cat([self.values, value_states], dim=-2)
        if first:
            behind = self.sliding_window - 1 + self.extra
            # A slice would hold on to the memory of the whole prompt.
            self.keys, self.values = keys[..., -behind:, :].clone(), values[..., -behind:, :].clone()
            return keys, values
        self.keys, self.values = keys, values
        visible = self.sliding_window - 1 + count
        return keys[..., -visible:, :], values[..., -visible:, :]


def retaining_cache(model: PreTrainedModel, extra: int) -> DynamicCache | None:
    """A cache whose last columns can be replayed, or None where transformers' own choice is the right one.

    Args:
        model: The model that will fill it.
        extra: How many columns of the prompt a replay may start before the response.
    """
    config = model.config.get_text_config(decoder=True)
    cache = DynamicCache(config=config)
    sliding = [i for i, layer in enumerate(cache.layers) if type(layer) is DynamicSlidingWindowLayer]
    if not sliding or not model._supports_default_dynamic_cache():
        return None
    for index in sliding:
        cache.layers[index] = _RetainingSlidingLayer(cache.layers[index].sliding_window, extra)
    return cache


class _LeadBack(torch.autograd.Function):
    """The kept keys (or values) of all columns; their gradient at the suffix goes to the fresh ones."""

    @staticmethod
    def forward(ctx: Any, fresh: Tensor, kept: Tensor) -> Tensor:
        ctx.count = fresh.shape[-2]
        return kept.view_as(kept)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0][..., -ctx.count :, :], None


class _ReplayLayer(CacheLayerMixin):
    """One layer of a filled cache, read again from column ``start`` on."""

    def __init__(self, keys: Tensor, values: Tensor, start: int, offset: int, sliding: bool) -> None:
        super().__init__()
        self.keys, self.values = keys, values
        self.start, self.offset = start, offset
        self.is_sliding = sliding
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: the layer is filled."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        keys: Tensor = _LeadBack.apply(key_states, self.keys)
        values: Tensor = _LeadBack.apply(value_states, self.values)
        return keys, values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.keys.shape[-2], self.offset

    def get_seq_length(self) -> int:
        return self.start

    def get_max_length(self) -> int:
        return -1


def replay_cache(cache: Cache | None, columns: int, start: int) -> Cache | None:
    """View a filled cache so that the columns from ``start`` on can be run again over it.

    Args:
        cache: What a run over all columns left.
        columns: Number of columns that were run.
        start: First column to be run again.

    Returns:
        The view, which shares the memory of the cache, or None where the cache does not hold every column
        that the replay would look at (recurrent states, compressed or shared keys, a window that moved on).
    """
    if cache is None:
        return None
    layers = []
    for layer in cache.layers:
        if type(layer) is DynamicLayer:
            reach, sliding = columns, False
        elif type(layer) in (DynamicSlidingWindowLayer, _RetainingSlidingLayer):
            reach, sliding = min(columns, layer.sliding_window - 1 + columns - start), True
        else:
            return None
        if not layer.is_initialized or layer.keys.shape[-2] < reach:
            return None
        keys, values = layer.keys[..., -reach:, :], layer.values[..., -reach:, :]
        layers.append(_ReplayLayer(keys, values, start, columns - reach, sliding))
    return Cache(layers=layers)
