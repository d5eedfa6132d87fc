"""What a generation keeps so that scoring need not compute it again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from torch import Tensor, nn
from transformers import Cache

from guardrail.models.replay.caches import cache_of_row

__all__ = ["BatchActivations", "CachedActivations", "RowActivations"]


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
    cache: Cache | None
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
    """One trace's place among the kept states of its batch."""

    batch: BatchActivations
    row: int
