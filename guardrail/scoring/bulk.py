"""Many lines scored in batches; a batch that fails is done again item by item."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch

from guardrail.errors import GuardrailError, OptionError, ScoringError
from guardrail.models.fingerprint import fingerprint_model
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.records import (
    Encoded,
    Failure,
    Line,
    Made,
    TextRequest,
    encode,
    error_record,
    failure_status,
    line_record,
)
from guardrail.scoring.score import score_batch
from guardrail.utils.progress import ProgressCallback, report

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel

__all__ = ["together_or_alone"]


# What torch says on a CPU, for want of a type.
_ON_CPU = "can't allocate memory"

Job = TypeVar("Job")
Result = TypeVar("Result")


def together_or_alone(
    work: Callable[[Sequence[Job]], Sequence[Result]], jobs: Sequence[Job]
) -> list[Result | GuardrailError]:
    """Do the work on all jobs at once; where that fails, on one after the other.

    Args:
        work: Gives a result for each job of a batch, or raises.
        jobs: The batch.

    Returns:
        For each job its result, or why there is none. Too little memory is such a reason.
    """
    try:
        return list(_within_memory(work, jobs))
    except GuardrailError as error:
        # With the frames it went through, it would hold on to their tensors while the others are tried.
        failure = error.with_traceback(None)
        failure.__cause__ = failure.__context__ = None
    if len(jobs) == 1:
        return [failure]
    results: list[Result | GuardrailError] = []
    for job in jobs:
        results += together_or_alone(work, [job])
    return results


def _within_memory(
    work: Callable[[Sequence[Job]], Sequence[Result]], jobs: Sequence[Job]
) -> Sequence[Result]:
    try:
        return work(jobs)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ScoringError("The memory does not suffice to score this line.") from error
    except RuntimeError as error:
        if _ON_CPU not in str(error):
            raise
        raise ScoringError("The memory does not suffice to score this line.") from error


# Lines of this many batches are put in order of length, so that little is wasted on padding.
_BATCHES_PER_WINDOW = 4


class _Job(NamedTuple):
    """A line that could be encoded, and its place in the window."""

    place: int
    line: Line
    encoded: Encoded


def score_lines(
    model: "LocalModel",
    lines: Sequence[Line],
    options: ScoringOptions | None = None,
    *,
    batch_size: int = 8,
    start: int = 0,
    made: Made | None = None,
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
        made: What records say of how they were made, where that is known already: :func:`made_by`.
        progress: Told of each batch.

    Raises:
        OptionError: The batch size is less than 1.
    """
    if batch_size < 1:
        raise OptionError(f"batch_size is {batch_size}; it is at least 1.")
    options = options or ScoringOptions()
    return _score_windows(model, lines, options, batch_size, start, made or made_by(model, options), progress)


def made_by(model: "LocalModel", options: ScoringOptions) -> Made:
    """What a record says of how it was made."""
    return Made(fingerprint_model(model), options)


def _score_windows(
    model: "LocalModel",
    lines: Sequence[Line],
    options: ScoringOptions,
    batch_size: int,
    start: int,
    made: Made,
    progress: ProgressCallback | None,
) -> Iterator[dict[str, Any]]:
    size = batch_size * _BATCHES_PER_WINDOW
    report(progress, "scoring", start, len(lines))
    for first in range(start, len(lines), size):
        window = lines[first : first + size]
        done: dict[int, dict[str, Any]] = {}
        given = 0
        for results in _score_window(model, window, options, batch_size, made):
            done |= results
            report(progress, "scoring", first + len(done), len(lines))
            while given in done:
                yield done[given]
                given += 1


def _score_window(
    model: "LocalModel", window: Sequence[Line], options: ScoringOptions, batch_size: int, made: Made
) -> Iterator[dict[int, dict[str, Any]]]:
    jobs: list[_Job] = []
    refused: dict[int, dict[str, Any]] = {}
    for place, line in enumerate(window):
        job = _encoded(model, place, line)
        if isinstance(job, GuardrailError):
            refused[place] = error_record(line, job, made)
        else:
            jobs.append(job)
    yield refused
    jobs.sort(key=lambda job: len(job.encoded.prompt.ids) + len(job.encoded.response_ids))
    for low in range(0, len(jobs), batch_size):
        yield _score_jobs(model, jobs[low : low + batch_size], options, made)


def _encoded(model: "LocalModel", place: int, line: Line) -> _Job | GuardrailError:
    if line.request is None:
        return line.problem or GuardrailError("The line was not read.")
    try:
        return _Job(place, line, encode(model, line.request))
    except GuardrailError as error:
        return error


def _score_jobs(
    model: "LocalModel", jobs: Sequence[_Job], options: ScoringOptions, made: Made
) -> dict[int, dict[str, Any]]:
    results = together_or_alone(lambda some: _score_together(model, some, options, made), jobs)
    return {
        job.place: error_record(job.line, result, made) if isinstance(result, GuardrailError) else result
        for job, result in zip(jobs, results, strict=True)
    }


def _score_together(
    model: "LocalModel", jobs: Sequence[_Job], options: ScoringOptions, made: Made
) -> list[dict[str, Any]]:
    traces = model.read_encoded(
        [job.encoded.prompt for job in jobs], [job.encoded.response_ids for job in jobs]
    )
    uncertainties = score_batch(model, traces, options)
    results: list[dict[str, Any]] = []
    for job, trace, uncertainty in zip(jobs, traces, uncertainties, strict=True):
        request = job.line.request
        if request is not None:
            reason = trace.ended(request.finish_reason)
            text = trace.text
            if isinstance(request, TextRequest) and not trace.answer_start:
                text = model.said(request.response)
            trace = replace(trace, finish_reason=reason, text=text)
        results.append(line_record(job.line, trace, uncertainty, made))
    return results


@dataclass(slots=True)
class Tally:
    """Counts records as they come.

    Attributes:
        kept: How many were there from an earlier run.
        values: HybridGrad of each that was scored.
        failures: Of each that was not: the number of its line (from 1), why, and its exit status.
    """

    kept: int = 0
    values: list[float] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    lines: int = 0

    def add(self, record: Mapping[str, Any]) -> None:
        """Count the record of the next line."""
        self.lines += 1
        if status := failure_status(record):
            self.failures.append(Failure(self.lines, str(record["error"]), status))
        else:
            self.values.append(record["uncertainty"]["hybridgrad"])

    @property
    def exit_status(self) -> int:
        """0 if all were scored, 2 if the lines themselves were wrong that were not, 1 otherwise."""
        statuses = {failure.exit_status for failure in self.failures}
        return 0 if not statuses else 2 if statuses == {2} else 1

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = sorted(self.values)
        return {
            "lines": self.lines,
            "scored": len(values),
            "failed": len(self.failures),
            "kept": self.kept,
            "failures": [{"line": failure.line, "error": failure.reason} for failure in self.failures],
            "hybridgrad": {"min": values[0], "median": median(values), "max": values[-1]} if values else None,
        }
