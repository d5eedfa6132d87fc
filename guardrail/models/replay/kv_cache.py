"""The key–value cache of a run: filled so that its last columns can be run again, and viewed for that.

Where the installed transformers does not allow it, nothing here is tried and None is the answer everywhere.
"""

from copy import copy
from typing import TYPE_CHECKING, Any

from guardrail.models.replay.transformers_internals import missing_internal

if TYPE_CHECKING:
    from transformers import Cache, DynamicCache, PreTrainedModel

__all__ = ["cache_of_row", "replay_cache", "retaining_cache"]


def retaining_cache(model: "PreTrainedModel", extra: int) -> "DynamicCache | None":
    """A cache whose last columns can be replayed, or None where transformers' own choice is the right one.

    Args:
        model: The model that will fill it.
        extra: How many columns of the prompt a replay may start before the response.
    """
    if missing_internal():
        return None
    from transformers import DynamicCache

    from guardrail.models.replay.cache_layers import RetainingSlidingLayer
    from guardrail.models.replay.transformers_internals import DynamicSlidingWindowLayer

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
        cache.layers[index] = RetainingSlidingLayer(window, extra)
    return cache


def cache_of_row(cache: "Cache | None", row: int, copies: int) -> "Cache | None":
    """View one row of a filled cache, as often as wanted, in the memory of the cache.

    Returns:
        The view, or None where the cache holds something else than keys and values.
    """
    if cache is None or missing_internal():
        return None
    from transformers import Cache

    from guardrail.models.replay.cache_layers import RetainingSlidingLayer
    from guardrail.models.replay.transformers_internals import DynamicLayer, DynamicSlidingWindowLayer

    # Subclasses of these may keep something else; they have to be looked at before they are trusted.
    known = (DynamicLayer, DynamicSlidingWindowLayer, RetainingSlidingLayer)
    layers: list[Any] = []
    for layer in cache.layers:
        if not isinstance(layer, DynamicLayer) or type(layer) not in known:
            return None
        if layer.keys is None or layer.values is None:
            return None
        viewed = copy(layer)
        viewed.keys = layer.keys[row : row + 1].expand(copies, -1, -1, -1)
        viewed.values = layer.values[row : row + 1].expand(copies, -1, -1, -1)
        layers.append(viewed)
    return Cache(layers=layers)


def replay_cache(cache: "Cache | None", columns: int, start: int) -> "Cache | None":
    """View a filled cache so that the columns from ``start`` on can be run again over it.

    Args:
        cache: What a run over all columns left.
        columns: Number of columns that were run.
        start: First column to be run again.

    Returns:
        The view, which shares the memory of the cache, or None where the cache does not hold every column
        that the replay would look at (recurrent states, compressed or shared keys, a window that moved on).
    """
    if cache is None or missing_internal():
        return None
    from transformers import Cache

    from guardrail.models.replay.cache_layers import ReplayLayer, RetainingSlidingLayer
    from guardrail.models.replay.transformers_internals import DynamicLayer, DynamicSlidingWindowLayer

    # Subclasses of these may keep something else; they have to be looked at before they are trusted.
    sliding = (DynamicSlidingWindowLayer, RetainingSlidingLayer)
    layers: list[Any] = []
    for layer in cache.layers:
        if isinstance(layer, DynamicSlidingWindowLayer) and type(layer) in sliding:
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
        layers.append(ReplayLayer(*kept, start, columns - reach, layer.is_sliding))
    return Cache(layers=layers)
