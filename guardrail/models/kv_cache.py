"""Keys and values: kept long enough to be replayed, and replayed without a copy.

The suffix of a sequence is run a second time with gradients. Its keys and values are in the cache already,
with the same numbers, so the replay reads the cache where it lies; only the gradients of the suffix's own
keys and values are led back to where they came from.
"""

from collections.abc import Callable
from copy import copy
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


# Subclasses of these may keep something else; they have to be looked at before they are trusted.
_SLIDING = (DynamicSlidingWindowLayer, _RetainingSlidingLayer)


def retaining_cache(model: PreTrainedModel, extra: int) -> DynamicCache | None:
    """A cache whose last columns can be replayed, or None where transformers' own choice is the right one.

    Args:
        model: The model that will fill it.
        extra: How many columns of the prompt a replay may start before the response.
    """
    config = model.config.get_text_config(decoder=True)
    cache = DynamicCache(config=config)
    sliding = {
        index: layer.sliding_window
        for index, layer in enumerate(cache.layers)
        if isinstance(layer, DynamicSlidingWindowLayer) and type(layer) is DynamicSlidingWindowLayer
    }
    if not sliding:
        return None
    for index, window in sliding.items():
        cache.layers[index] = _RetainingSlidingLayer(window, extra)
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


_lead_back: Callable[..., Tensor] = _LeadBack.apply


class _ReplayLayer(CacheLayerMixin):
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
        return _lead_back(key_states, self.keys), _lead_back(value_states, self.values)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length, self.offset

    def get_seq_length(self) -> int:
        return self.start

    def get_max_length(self) -> int:
        return -1


def cache_of_row(cache: Cache | None, row: int, copies: int) -> Cache | None:
    """View one row of a filled cache, as often as wanted, in the memory of the cache.

    Returns:
        The view, or None where the cache holds something else than keys and values.
    """
    if cache is None:
        return None
    layers: list[Any] = []
    for layer in cache.layers:
        if not isinstance(layer, DynamicLayer) or type(layer) not in (DynamicLayer, *_SLIDING):
            return None
        if layer.keys is None or layer.values is None:
            return None
        viewed = copy(layer)
        viewed.keys = layer.keys[row : row + 1].expand(copies, -1, -1, -1)
        viewed.values = layer.values[row : row + 1].expand(copies, -1, -1, -1)
        layers.append(viewed)
    return Cache(layers=layers)


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
    layers: list[Any] = []
    for layer in cache.layers:
        if isinstance(layer, DynamicSlidingWindowLayer) and type(layer) in _SLIDING:
            reach = min(columns, layer.sliding_window - 1 + columns - start)
        elif type(layer) is DynamicLayer:
            reach = columns
        else:
            return None
        keys, values = layer.keys, layer.values
        if keys is None or values is None:
            return None
        # A run may have gone on for a token more than is wanted of it.
        end = keys.shape[-2] - (layer.get_seq_length() - columns)
        if end < reach:
            return None
        kept = keys[..., end - reach : end, :], values[..., end - reach : end, :]
        layers.append(_ReplayLayer(*kept, start, columns - reach, layer.is_sliding))
    return Cache(layers=layers)
