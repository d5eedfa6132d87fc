"""What a generation keeps for scoring: keys and values, and the outputs of modules (cached activations)."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn
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


# More than this is not kept: a long answer is replayed in full, which costs it little in proportion.
OUTPUTS_BUDGET_BYTES = 256 * 2**20


def last_columns(states: Tensor, count: int) -> Tensor:
    """At most so many of the last columns (B × columns × …)."""
    columns = states.shape[1]
    # A slice would hold on to the memory of the whole prompt.
    return states if columns <= count else states.narrow_copy(1, columns - count, count)


class CachedOutputs:
    """The outputs of some modules over the passes of a run, until they take too much room.

    They are written into one list as they come, and sorted out when they are asked for. Between two calls a
    layer's weights go through the cache, and what keeping touches has to be fetched again: one list for each
    module took five times as long.

    Args:
        modules: Whose outputs are kept.
        tail: How many columns of the first pass are kept.
    """

    def __init__(self, modules: Iterable[nn.Module], tail: int) -> None:
        self.tail = tail
        self._modules = set(modules)
        self._calls: list[tuple[nn.Module, Tensor]] = []
        self._passes = self._before = self._bytes = self._bytes_of_a_pass = 0

    def add(self, module: nn.Module, output: Tensor) -> None:
        """Keep what a module gave in one pass (B × columns × …), if it is one of them."""
        if module in self._modules:
            self._calls.append((module, last_columns(output, self.tail)))

    @property
    def keep(self) -> Callable[[tuple[nn.Module, Tensor]], None]:
        """The same without a look at the module or the columns, for passes behind the first."""
        return self._calls.append

    def end_pass(self) -> None:
        """Go on with the modules that were called once in every pass so far, if their outputs find room."""
        self._passes += 1
        # A pass behind the second is like it, unless more or fewer calls show that it is not.
        if self._passes <= 2 or len(self._calls) - self._before != len(self._modules):
            self._sort_out()
        self._bytes += self._bytes_of_a_pass
        if self._bytes > OUTPUTS_BUDGET_BYTES:
            self._modules.clear()
            self._calls.clear()
        self._before = len(self._calls)

    def joined(self, states: Sequence[Tensor], passes: int) -> Mapping[nn.Module, Tensor]:
        """What each module gave over the first ``passes`` passes, along time (B × columns × …).

        A module that was not called exactly once in each (an expert of a mixture, a block that is used
        twice), whose columns are not positions, or whose output was written to afterwards, is left out.

        Args:
            states: Hidden states of all passes, whose rows and columns these outputs have to have.
            passes: How many passes are wanted.
        """
        by_module: dict[nn.Module, list[Tensor]] = {}
        for module, output in self._calls:
            by_module.setdefault(module, []).append(output)
        shapes = [piece.shape[:2] for piece in states]
        return {
            module: torch.cat(outputs[:passes], dim=1)
            for module, outputs in by_module.items()
            if [output.shape[:2] for output in outputs] == shapes
            # A module's own writing counts too: rather one left out than one that is not what it gave.
            and not any(output._version for output in outputs)
        }

    def _sort_out(self) -> None:
        counts = Counter(module for module, _ in self._calls[self._before :])
        once = {module for module in self._modules if counts[module] == 1}
        unsorted = self._before if once == self._modules else 0
        self._calls[unsorted:] = [call for call in self._calls[unsorted:] if call[0] in once]
        self._modules = once
        self._bytes_of_a_pass = sum(output.nbytes for _, output in self._calls[-len(once) :]) if once else 0
