"""What a caller asks of a guard, as jobs for it."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

from guardrail.calibration.author import Author, author_of
from guardrail.errors import OptionError, ResponseError
from guardrail.guard.producing import Job
from guardrail.guard.tool_calls import CalledTool
from guardrail.models.content import with_text

if TYPE_CHECKING:
    from guardrail.models.prompt import Prompt
    from guardrail.models.trace import FinishReason

__all__ = ["Response", "job_of", "jobs_of", "reading_job"]

Response = str | Sequence[int]


def job_of(messages: "Prompt", tags: Iterable[str], answered_by: str | Author | None = None) -> Job:
    """A question or a conversation to be answered, or that somebody answered."""
    if isinstance(tags, str):
        raise OptionError("tags is a list of texts.")
    asked = [{"role": "user", "content": messages}] if isinstance(messages, str) else with_text(messages)
    return Job(id=uuid4().hex, messages=asked, tags=frozenset(tags), answered_by=author_of(answered_by))


def reading_job(
    messages: "Prompt",
    response: Response,
    tags: Iterable[str],
    finish_reason: "FinishReason | None" = None,
    tool_calls: Iterable[str | CalledTool] = (),
    answered_by: str | Author | None = None,
) -> Job:
    """A response that was produced elsewhere, to be read."""
    if isinstance(tool_calls, str):
        raise OptionError("tool_calls is a list of names or calls.")
    # Nothing else may be taken for a request to generate one.
    is_list = isinstance(response, Sequence) and not isinstance(response, str | bytes | bytearray)
    if not isinstance(response, str) and not (is_list and all(isinstance(token, int) for token in response)):
        raise ResponseError("A response is a text, or a list of token ids.")
    return replace(
        job_of(messages, tags, answered_by),
        response=response,
        finish_reason=finish_reason,
        tool_calls=tuple(tool_calls),
    )


def jobs_of(
    conversations: "Sequence[Prompt]",
    tags: Iterable[str],
    responses: Sequence[Response] | None = None,
    answered_by: str | Author | None = None,
) -> list[Job]:
    """A batch of either kind; without responses they are to be generated."""
    if isinstance(conversations, str):
        raise OptionError("A batch is a list of questions or conversations, and this is one text.")
    if responses is None:
        return [job_of(messages, tags) for messages in conversations]
    if len(responses) != len(conversations):
        raise OptionError(f"There are {len(conversations)} conversations and {len(responses)} responses.")
    return [
        reading_job(messages, response, tags, answered_by=answered_by)
        for messages, response in zip(conversations, responses, strict=True)
    ]
