"""What is scored together, laid out as the backward pass wants it: responses, or segments of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from guardrail.errors import ScoringError
from guardrail.scoring.options import ScoringOptions, Span
from guardrail.scoring.uncertainty import token_weights

if TYPE_CHECKING:
    from guardrail.models.replay.cached_activations import CachedActivations
    from guardrail.models.trace import Trace


class HeadInputs(NamedTuple):
    """Where the head predicted response tokens: N positions, response after response.

    Attributes:
        final: What the head was given (N × d).
        logits: What the model answered (rows × V), and ``rows``, which of them are the N; None to compute
            them again from ``final``.
        rows: Indices into ``logits``; None for all of them.
        log_normalizers: Logarithm of the softmax denominators (N).
        targets: The tokens that were taken (N, on the CPU).
        lengths: How many positions each response has; they add up to N.
        weights: Factor of each position in the loss (N).
        even_weights: The same without entropies (N), for ExGrad; None if it is not wanted.
    """

    final: Tensor
    logits: Tensor | None
    rows: Tensor | None
    log_normalizers: Tensor
    targets: Tensor
    lengths: Sequence[int]
    weights: Tensor
    even_weights: Tensor | None


class ScoredSpan(NamedTuple):
    """The tokens of a response that one loss is made of; the tokens before them are given context."""

    trace: "Trace"
    span: Span


@dataclass(frozen=True, slots=True)
class Batch:
    """Parts to be scored in one backward pass, each in a row of its own.

    Attributes:
        parts: What is scored.
        states: The states to run.
        rows: Row of each part among them.
        columns: Column of each part's t*.
        row_of: Row of each of the N predicted tokens, part after part.
        step_of: Step of each within its response.
        predictions: The same N positions as the head saw them.
    """

    parts: Sequence[ScoredSpan]
    states: "CachedActivations"
    rows: list[int]
    columns: list[int]
    row_of: Tensor
    step_of: Tensor
    predictions: HeadInputs


def lay_out(traces: Sequence["Trace"], options: ScoringOptions) -> Batch:
    """Lay out the traces of one kept batch, in the order given.

    Raises:
        ScoringError: Their states were released.
    """
    states = _cached_activations(traces[0])
    parts = [ScoredSpan(trace, Span(trace.answer_start, len(trace.response_ids))) for trace in traces]
    rows = [trace.kept.row if trace.kept else 0 for trace in traces]
    return _laid_out(parts, states, rows, states, rows, options)


def lay_out_segments(
    trace: "Trace", spans: Sequence[Span], options: ScoringOptions, *, to_the_end: bool
) -> Batch:
    """Lay out segments of one response, which is repeated for them up to the end of the last one.

    Args:
        trace: The response.
        spans: Its segments.
        options: How they are scored.
        to_the_end: Repeat the whole response all the same.

    Raises:
        ScoringError: Its states were released.
    """
    kept = _cached_activations(trace)
    row = trace.kept.row if trace.kept else 0
    whole = to_the_end or not kept.kept_every_column
    tokens = len(trace.response_ids) if whole else max(span.end for span in spans)
    parts = [ScoredSpan(trace, span) for span in spans]
    states = kept.of_row(row, tokens, len(parts))
    return _laid_out(parts, states, list(range(len(parts))), kept, [row] * len(parts), options)


def _cached_activations(trace: "Trace") -> "CachedActivations":
    if trace.states is None:
        raise ScoringError(
            "The states kept for this response were released before it was scored. Score it with "
            "release=False first, or read it again."
        )
    return trace.states


def _laid_out(
    parts: Sequence[ScoredSpan],
    states: "CachedActivations",
    rows: list[int],
    kept: "CachedActivations",
    kept_rows: list[int],
    options: ScoringOptions,
) -> Batch:
    """Lay out parts in ``rows`` of the states to run; they were predicted in ``kept_rows`` of those kept."""
    if kept.log_normalizers is None:
        raise ScoringError("The states of this response are not complete; read it again.")
    device, dtype = kept.final.device, kept.log_normalizers.dtype
    spans = [part.span for part in parts]
    lengths = [end - start for start, end in spans]
    height, width = kept.final.shape[:2]
    index = [row * width + step for row, span in zip(kept_rows, spans, strict=True) for step in range(*span)]
    kept_at = torch.tensor(index, device=device)
    row_of = torch.tensor(
        [row for row, n in zip(rows, lengths, strict=True) for _ in range(n)], device=device
    )
    weights = [
        weight for trace, span in parts for weight in token_weights(trace.entropies[slice(*span)], options)
    ]
    even = [1 / n if options.reduction == "mean" else 1.0 for n in lengths for _ in range(n)]
    predictions = HeadInputs(
        final=kept.final.flatten(0, 1)[kept_at],
        logits=None if kept.logits is None else kept.logits.flatten(0, 1),
        rows=None if index == list(range(height * width)) else kept_at,
        log_normalizers=kept.log_normalizers.flatten()[kept_at],
        targets=torch.tensor([token for trace, span in parts for token in trace.response_ids[slice(*span)]]),
        lengths=lengths,
        weights=torch.tensor(weights, dtype=dtype, device=device),
        even_weights=torch.tensor(even, dtype=dtype, device=device) if options.exgrad else None,
    )
    columns = [kept.prompt_width + (options.semantic_token or part.trace.semantic_token) for part in parts]
    return Batch(parts, states, rows, columns, row_of, kept_at % width, predictions)
