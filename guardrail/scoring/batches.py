"""The loop that score, calibrate and evaluate share: many items through a model in batches.

Items are encoded, put in order of length within a window, and worked on together. A batch that fails is done
again item by item, so that one bad item costs no other its result. What became of the items that failed, and
the exit status that follows, is said here too.

Nothing here loads torch before something runs.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Generic, NamedTuple, Self, TypeVar

from guardrail.errors import GuardrailError, ScoringError
from guardrail.utils.threads import ProgressCallback, report

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel
    from guardrail.models.prompt import EncodedPrompt

__all__ = ["Encoded", "Failure", "Outcome", "exit_status_of", "run_batches", "together_or_alone"]


# As many batches as this are put in order of length together, so that little is wasted on padding.
BATCHES_PER_WINDOW = 4
# What torch says on a CPU, for want of a type.
_ON_CPU = "can't allocate memory"

Item = TypeVar("Item")
Job = TypeVar("Job")
Result = TypeVar("Result")
Record = TypeVar("Record")


class Failure(NamedTuple):
    """A line that nothing came out for.

    Attributes:
        line: Its number, from 1.
        reason: Why, in words.
        exit_status: The exit status that this alone would end a command with.
    """

    line: int
    reason: str
    exit_status: int

    @classmethod
    def of(cls, line: int, error: GuardrailError) -> Self:
        """The failure that an error is for a line."""
        return cls(line, " ".join(str(error).split()), error.exit_status)


def exit_status_of(failures: Iterable[Failure], *, something_else_failed: bool = False) -> int:
    """The exit status of a run: 0 if all went well, 2 if only lines were wrong, 1 if something failed."""
    statuses = {failure.exit_status for failure in failures}
    if something_else_failed or statuses - {2}:
        return 1
    return 2 if statuses else 0


class Encoded(NamedTuple, Generic[Item]):
    """An item as the model reads it.

    Attributes:
        item: The item.
        prompt: Its prompt.
        response_ids: The response to be read; None where the model is to answer.
    """

    item: Item
    prompt: "EncodedPrompt"
    response_ids: list[int] | None

    @property
    def length(self) -> int:
        """Tokens that are known before anything is generated."""
        return len(self.prompt.ids) + len(self.response_ids or ())


class Outcome(NamedTuple, Generic[Item, Result]):
    """What came of an item: a result, or the error that it failed with."""

    item: Item
    result: Result | GuardrailError


def run_batches(
    model: "LocalModel",
    items: Sequence[Item],
    encode: Callable[[Item], Encoded[Item]],
    work: Callable[[Sequence[Encoded[Item]]], Sequence[Result]],
    on_results: Callable[[Sequence[Outcome[Item, Result]]], Sequence[Record]],
    *,
    batch_size: int,
    max_tokens: int = 0,
    stage: str,
    done: int = 0,
    progress: ProgressCallback | None = None,
) -> Iterator[Record]:
    """Take items through a model; the records of each batch come out as soon as it is done.

    Args:
        model: The model.
        items: The items.
        encode: Encodes one of them. A GuardrailError is that item's result, and the others go on.
        work: Gives a result for each item of a batch, which either all have a response or none has. A
            GuardrailError, or too little memory, has the batch done again item by item.
        on_results: Makes records of what came of a batch. It is called once for each item.
        batch_size: Most items of a batch.
        max_tokens: Most tokens that the model generates for an item.
        stage: What is being done, for the progress.
        done: How many items were done before, for the progress.
        progress: Told after each batch.
    """
    total = done + len(items)
    report(progress, stage, done, total)
    size = batch_size * BATCHES_PER_WINDOW
    for first in range(0, len(items), size):
        jobs: list[Encoded[Item]] = []
        refused: list[Outcome[Item, Result]] = []
        for item in items[first : first + size]:
            try:
                jobs.append(encode(item))
            except GuardrailError as error:
                refused.append(Outcome(item, error))
        for outcomes in _outcomes(model, jobs, refused, work, batch_size, max_tokens):
            records = on_results(outcomes)
            done += len(outcomes)
            report(progress, stage, done, total)
            yield from records


def _outcomes(
    model: "LocalModel",
    jobs: Sequence[Encoded[Item]],
    refused: Sequence[Outcome[Item, Result]],
    work: Callable[[Sequence[Encoded[Item]]], Sequence[Result]],
    batch_size: int,
    max_tokens: int,
) -> Iterator[Sequence[Outcome[Item, Result]]]:
    if refused:
        yield refused
    for batch in _batches(jobs, batch_size, max_tokens, model.anatomy.context_length or sys.maxsize):
        results = together_or_alone(work, batch)
        yield [Outcome(job.item, result) for job, result in zip(batch, results, strict=True)]


def _batches(
    jobs: Sequence[Encoded[Item]], size: int, max_tokens: int, context: int
) -> Iterator[list[Encoded[Item]]]:
    """Batches of like length: those to be answered, those that have a response, those with little room."""
    asked: list[Encoded[Item]] = []
    given: list[Encoded[Item]] = []
    crowded: list[Encoded[Item]] = []
    for job in sorted(jobs, key=lambda job: job.length):
        if job.response_ids is not None:
            given.append(job)
        # A batch has room for as many tokens as its longest prompt leaves: that one goes alone.
        elif context - len(job.prompt.ids) < max_tokens:
            crowded.append(job)
        else:
            asked.append(job)
    for group, most in ((asked, size), (given, size), (crowded, 1)):
        for low in range(0, len(group), most):
            yield group[low : low + most]


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
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        raise ScoringError("The memory does not suffice to score this line.") from error


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or _ON_CPU in str(error)
