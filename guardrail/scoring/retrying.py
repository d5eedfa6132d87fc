"""Work on a batch that fails: each of its parts alone, so that only the guilty ones go without."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from guardrail.errors import GuardrailError, ScoringError

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
