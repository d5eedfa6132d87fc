"""Questions as the model reads them, in batches of like length."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from guardrail.calibration.questions import Question
from guardrail.models.prompt import EncodedPrompt

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel
    from guardrail.models.prompt import Prompt

__all__ = ["Job", "batches", "encode_question", "messages_of"]


class Job(NamedTuple):
    """A question that could be encoded; ``response_ids`` where it came with a response."""

    question: Question
    prompt: EncodedPrompt
    response_ids: list[int] | None

    @property
    def length(self) -> int:
        """Tokens that are known before anything is generated."""
        return len(self.prompt.ids) + len(self.response_ids or ())


def encode_question(model: "LocalModel", question: Question, system: str | None) -> Job:
    """Encode a question for a model, behind a system message where there is one.

    Raises:
        PromptError: The question cannot be read by this model.
        ResponseError: Its response cannot.
    """
    encoded = model.encode_prompt(messages_of(question.prompt, system))
    if question.response is None:
        return Job(question, encoded, None)
    ids = model.encode_response(question.response, question.finish_reason)
    return Job(replace(question, response=model.said(question.response)), encoded, ids)


def messages_of(prompt: "Prompt", system: str | None) -> Sequence[Mapping[str, Any]]:
    """A prompt as messages, behind a system message unless it has one."""
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    has_one = any(isinstance(message, dict) and message.get("role") == "system" for message in messages)
    return messages if system is None or has_one else [{"role": "system", "content": system}, *messages]


def batches(model: "LocalModel", jobs: Sequence[Job], max_tokens: int, size: int) -> Iterator[list[Job]]:
    """Jobs in batches: those to be answered, those that came with a response, those with little room.

    Args:
        model: The model.
        jobs: They.
        max_tokens: Most tokens of an answer.
        size: Most jobs of a batch.
    """
    ordered = sorted(jobs, key=lambda job: job.length)
    context = model.anatomy.context_length or sys.maxsize
    asked: list[Job] = []
    crowded: list[Job] = []
    for job in (job for job in ordered if job.response_ids is None):
        # A batch has room for as many tokens as its longest prompt leaves: that one goes alone.
        room = context - len(job.prompt.ids)
        (asked if room >= max_tokens else crowded).append(job)
    given = [job for job in ordered if job.response_ids is not None]
    for group, most in ((asked, size), (given, size), (crowded, 1)):
        for low in range(0, len(group), most):
            yield group[low : low + most]
