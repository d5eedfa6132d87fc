"""The responses to be scored together, laid out as the backward pass wants them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from guardrail.errors import ScoringError
from guardrail.scoring.head import Predictions
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.uncertainty import token_weights

if TYPE_CHECKING:
    from guardrail.models.trace import KeptStates, Trace


@dataclass(frozen=True, slots=True)
class Batch:
    """Responses of one kept batch.

    Attributes:
        states: The kept states.
        rows: Row of each response among them.
        columns: Column of each response's t*.
        row_of: Row of each of the N predicted tokens, response after response.
        step_of: Step of each within its response.
        predictions: The same N positions as the head saw them.
    """

    states: "KeptStates"
    rows: list[int]
    columns: list[int]
    row_of: Tensor
    step_of: Tensor
    predictions: Predictions


def lay_out(traces: Sequence["Trace"], options: ScoringOptions) -> Batch:
    """Lay out the traces of one kept batch, in the order given.

    Raises:
        ScoringError: Their states were released.
    """
    states = traces[0].states
    if states is None or states.log_normalizers is None:
        raise ScoringError("The states kept for this response were released before it was scored.")
    device, dtype = states.final.device, states.log_normalizers.dtype
    rows = [trace.kept.row if trace.kept else 0 for trace in traces]
    lengths = [len(trace.response_ids) for trace in traces]
    row_of = torch.tensor(
        [row for row, n in zip(rows, lengths, strict=True) for _ in range(n)], device=device
    )
    step_of = torch.tensor([step for n in lengths for step in range(n)], device=device)
    weights = [weight for trace in traces for weight in token_weights(trace.entropies, options)]
    even = [1 / n if options.reduction == "mean" else 1.0 for n in lengths for _ in range(n)]
    whole = rows == list(range(states.final.shape[0])) and len(set(lengths)) == 1
    logits = None if states.logits is None else states.logits.flatten(0, 1)
    predictions = Predictions(
        final=states.final[row_of, step_of],
        logits=logits,
        rows=None if whole else row_of * states.final.shape[1] + step_of,
        log_normalizers=states.log_normalizers[row_of, step_of],
        targets=torch.tensor([token for trace in traces for token in trace.response_ids]),
        lengths=lengths,
        weights=torch.tensor(weights, dtype=dtype, device=device),
        even_weights=torch.tensor(even, dtype=dtype, device=device) if options.exgrad else None,
    )
    columns = [states.prompt_width + (options.semantic_token or trace.semantic_token) for trace in traces]
    return Batch(states, rows, columns, row_of, step_of, predictions)
