"""Lines of a data file scored in batches: a record for each, in their order."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from guardrail.errors import GuardrailError, OptionError
from guardrail.models.fingerprint import fingerprint_model
from guardrail.scoring.batches import Encoded, Outcome, run_batches
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.records import (
    Line,
    ScoreProvenance,
    TextRequest,
    encode,
    error_record,
    line_record,
)
from guardrail.scoring.score import score_batch
from guardrail.utils.threads import ProgressCallback

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel
    from guardrail.models.trace import Trace

__all__ = ["provenance_of", "score_lines"]


class _PlacedLine(NamedTuple):
    """A line and its place in the file, from 0."""

    place: int
    line: Line


def score_lines(
    model: "LocalModel",
    lines: Sequence[Line],
    options: ScoringOptions | None = None,
    *,
    batch_size: int = 8,
    start: int = 0,
    provenance: ScoreProvenance | None = None,
    progress: ProgressCallback | None = None,
) -> Iterator[dict[str, Any]]:
    """Score lines in batches and give a record for each, in order, as soon as it is there.

    A line that cannot be scored gets a record with ``error``, and the others go on.

    Args:
        model: The model that wrote the responses.
        lines: The lines.
        options: How to score.
        batch_size: How many are read by the model at once.
        start: How many of the lines were done before.
        provenance: What the records say of how they were made, where that is known already:
            :func:`provenance_of`.
        progress: Told after each batch.

    Raises:
        OptionError: The batch size is less than 1.
    """
    if batch_size < 1:
        raise OptionError(f"batch_size is {batch_size}; it is at least 1.")
    options = options or ScoringOptions()
    provenance = provenance or provenance_of(model, options)
    return _in_order(_scored(model, lines, options, batch_size, start, provenance, progress), start)


def provenance_of(model: "LocalModel", options: ScoringOptions) -> ScoreProvenance:
    """What a record says of how it was made."""
    return ScoreProvenance(fingerprint_model(model), options)


def _in_order(records: Iterator[tuple[int, dict[str, Any]]], start: int) -> Iterator[dict[str, Any]]:
    waiting: dict[int, dict[str, Any]] = {}
    for place, record in records:
        waiting[place] = record
        while start in waiting:
            yield waiting.pop(start)
            start += 1


def _scored(
    model: "LocalModel",
    lines: Sequence[Line],
    options: ScoringOptions,
    batch_size: int,
    start: int,
    provenance: ScoreProvenance,
    progress: ProgressCallback | None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The records with their places, in whatever order they are made."""

    def encoded(placed: _PlacedLine) -> Encoded[_PlacedLine]:
        if placed.line.request is None:
            raise placed.line.problem or GuardrailError("The line was not read.")
        _, prompt, response_ids = encode(model, placed.line.request)
        return Encoded(placed, prompt, response_ids)

    def scored(jobs: Sequence[Encoded[_PlacedLine]]) -> list[dict[str, Any]]:
        responses = [job.response_ids or [] for job in jobs]
        traces = model.read_encoded([job.prompt for job in jobs], responses)
        uncertainties = score_batch(model, traces, options)
        return [
            line_record(job.item.line, _as_given(model, job.item.line, trace), uncertainty, provenance)
            for job, trace, uncertainty in zip(jobs, traces, uncertainties, strict=True)
        ]

    def placed_records(
        outcomes: Sequence[Outcome[_PlacedLine, dict[str, Any]]],
    ) -> list[tuple[int, dict[str, Any]]]:
        return [
            (place, error_record(line, result, provenance) if isinstance(result, GuardrailError) else result)
            for (place, line), result in outcomes
        ]

    return run_batches(
        model,
        [_PlacedLine(place, line) for place, line in enumerate(lines)][start:],
        encoded,
        scored,
        placed_records,
        batch_size=batch_size,
        stage="scoring",
        done=start,
        progress=progress,
    )


def _as_given(model: "LocalModel", line: Line, trace: "Trace") -> "Trace":
    """A trace with the text and the end that its line gives."""
    request = line.request
    if request is None:
        return trace
    text = trace.text
    if isinstance(request, TextRequest) and not trace.answer_start:
        text = model.said(request.response)
    return replace(trace, finish_reason=trace.ended(request.finish_reason), text=text)
