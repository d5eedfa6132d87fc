"""What is kept of a run: its key-value cache, to run the last columns again over it, and cached activations.

Where the installed transformers does not allow a cache to be run again, that is not tried, and None is the
answer everywhere.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from guardrail.models.replay.transformers_internals import missing_internal

if TYPE_CHECKING:
    from transformers import Cache, DynamicCache, PreTrainedModel

__all__ = [
    "BatchActivations",
    "CachedActivations",
    "CachedOutputs",
    "RowActivations",
    "cache_of_row",
    "last_columns",
    "replay_cache",
    "retaining_cache",
]


def retaining_cache(model: "PreTrainedModel", extra: int) -> "DynamicCache | None":
    """A cache whose last columns can be replayed, or None where transformers' own choice is the right one.

    Args:
        model: The model that will fill it.
        extra: How many columns of the prompt a replay may start before the response.
    """
    if missing_internal():
        return None
    from transformers import DynamicCache

    from guardrail.models.replay.attention import RetainingSlidingLayer
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

    from guardrail.models.replay.attention import RetainingSlidingLayer
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

    from guardrail.models.replay.attention import ReplayLayer, RetainingSlidingLayer
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


@dataclass(slots=True)
class CachedActivations:
    """What a batch of responses left on the device, so that scoring need not run the model again.

    Columns are positions of the left-padded batch: prompts end at column ``prompt_width``, responses start
    there. The last response token is never fed to the model, so there are ``prompt_width + T − 1`` columns,
    with T the longest response of the batch.

    Attributes:
        ids: Token ids fed to the model (B × columns).
        mask: 1 where a column holds a token of its row, 0 where it pads (B × columns).
        prompt_width: Column at which every response starts.
        cache: Keys and values of every column; None where the architecture keeps something else.
        layer: The decoder layer whose inputs were kept.
        entering: Inputs of that layer in the columns from ``entering_from`` on (B × … × d).
        entering_from: First column of ``entering``.
        outputs: What linear maps and attention gave from that layer on, in the same columns (each B × … × out
            or heads × D); what is missing is computed again.
        final: What the head was given where each response token was predicted (B × T × d).
        logits: What the model answered there (B × T × V), as raw logits; None where they took too much room
            and the head alone gives them again.
        log_normalizers: Logarithm of the softmax denominator of those logits (B × T).
        plain_head: Whether the model's logits are the head's output as it is (no soft-capping, no scaling).
        returned: How many values a decoder layer returns in a tuple; 0 where it returns hidden states.
    """

    ids: Tensor
    mask: Tensor
    prompt_width: int
    cache: "Cache | None"
    layer: int
    entering: Tensor
    entering_from: int
    outputs: Mapping[nn.Module, Tensor]
    final: Tensor
    logits: Tensor | None
    log_normalizers: Tensor | None
    plain_head: bool
    returned: int

    @property
    def columns(self) -> int:
        """Number of columns fed to the model."""
        return int(self.ids.shape[1])

    @property
    def kept_every_column(self) -> bool:
        """Whether ``entering`` is what it seems: some models drop columns of a prompt on the way up."""
        return int(self.entering.shape[1]) == self.columns - self.entering_from

    def of_row(self, row: int, tokens: int, copies: int) -> Self:
        """View one row up to where its first ``tokens`` response tokens were predicted, as often as wanted.

        Logits are left out: there is no view of them that a head could use.
        """
        columns = self.prompt_width + tokens - 1
        kept = columns - self.entering_from

        def view(tensor: Tensor, length: int) -> Tensor:
            return tensor[row : row + 1, :length].expand(copies, *(-1 for _ in tensor.shape[1:]))

        return replace(
            self,
            ids=view(self.ids, columns),
            mask=view(self.mask, columns),
            cache=cache_of_row(self.cache, row, copies),
            entering=view(self.entering, kept),
            outputs={module: view(output, kept) for module, output in self.outputs.items()},
            final=view(self.final, tokens),
            logits=None,
            log_normalizers=None,
        )


class BatchActivations:
    """Shared by the traces of one batch; empty once every one of them was released."""

    __slots__ = ("_waiting", "states")

    def __init__(self, states: CachedActivations) -> None:
        self.states: CachedActivations | None = states
        self._waiting = set(range(states.ids.shape[0]))

    def release(self, row: int) -> None:
        """Say that one row is done with; the last one gives the memory back."""
        self._waiting.discard(row)
        if not self._waiting:
            self.states = None


class RowActivations(NamedTuple):
    """One trace's place among the cached activations of its batch."""

    batch: BatchActivations
    row: int


# More than this is not kept: a long answer is replayed in full, which costs it little in proportion.
OUTPUTS_BUDGET_BYTES = 256 * 2**20


def last_columns(states: Tensor, count: int) -> Tensor:
    """At most so many of the last columns (B × columns × …)."""
    columns = states.shape[1]
    # A slice would hold on to the memory of the whole prompt.
    return states if columns <= count else states.narrow_copy(1, columns - count, count)


class CachedOutputs:
    """The outputs of some modules over the passes of a run, until they take too much room.

    Outputs are appended to one list, and sorted by module when they are asked for. A list for each module
    was five times as slow: a layer's weights evict it from the processor's cache between two calls.

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
