"""How much the declared documents moved the answers of a batch, where the profile reads it.

The answers are read once more behind their prompts without the documents, all at once. A request that
declares none is left as it is: the profile does not hold for its answer (:mod:`guardrail.guard.assess`).
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from guardrail.guard.answer import failure
from guardrail.models.documents import without_documents
from guardrail.scoring.document_gain import document_gains
from guardrail.scoring.uncertainty import DOCUMENT_GAIN, Observation

if TYPE_CHECKING:
    from guardrail.guard.produce import Job, Produced
    from guardrail.models.local import LocalModel
    from guardrail.models.prompt import EncodedPrompt
    from guardrail.models.trace import Trace

__all__ = ["with_document_gains"]


class _Grounded(NamedTuple):
    """A scored answer of the batch, and its prompt without documents."""

    at: int
    trace: "Trace"
    prompt: "EncodedPrompt"


def with_document_gains(
    model: "LocalModel",
    jobs: "Sequence[Job]",
    traces: "Sequence[Trace | None]",
    produced: "Sequence[Produced]",
) -> "list[Produced]":
    """The scored answers of a batch with the score ``document_gain``, where their prompts declare documents.

    Where it cannot be had, the answer has an error, and no observation that a profile could assess.

    Args:
        model: The model.
        jobs: The requests.
        traces: Their answers; None where there is none.
        produced: What came of them so far.
    """
    began = time.perf_counter()
    found, grounded = list(produced), []
    for at, (job, trace, one) in enumerate(zip(jobs, traces, produced, strict=True)):
        if trace is None or one.observation is None:
            continue
        try:
            prompt = _prompt_without(model, job)
        except Exception as error:  # noqa: BLE001  (recorded; the answer is withheld)
            found[at] = _failed(one, failure("score", error))
        else:
            grounded += [] if prompt is None else [_Grounded(at, trace, prompt)]
    outcomes = _gains(model, grounded)
    seconds = time.perf_counter() - began
    for (at, _, _), outcome in zip(grounded, outcomes, strict=True):
        one = replace(found[at], timings={**found[at].timings, "document_s": seconds})
        found[at] = _failed(one, outcome) if isinstance(outcome, str) else _moved(one, outcome)
    return found


def _prompt_without(model: "LocalModel", job: "Job") -> "EncodedPrompt | None":
    messages = without_documents(job.messages)
    if messages is None:
        return None
    return model.encode_prompt(messages, job.controls.tools, job.controls.chat_template_kwargs)


def _gains(model: "LocalModel", grounded: Sequence[_Grounded]) -> list[float | str]:
    """The gain of each, or why there is none."""
    try:
        return [*document_gains(model, [one.trace for one in grounded], [one.prompt for one in grounded])]
    except Exception as error:  # noqa: BLE001  (recorded; the answer is withheld)
        if len(grounded) > 1:
            return [_gains(model, [one])[0] for one in grounded]
        return [failure("score", error)]


def _moved(one: "Produced", gain: float) -> "Produced":
    if one.uncertainty is None or one.observation is None:
        return one
    scores = {**one.observation.scores, DOCUMENT_GAIN: gain}
    return replace(
        one,
        uncertainty=replace(one.uncertainty, document_gain=gain),
        observation=Observation(scores, one.observation.hidden),
    )


def _failed(one: "Produced", error: str) -> "Produced":
    return replace(one, observation=None, error=one.error or error)
