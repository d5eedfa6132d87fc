"""What telemetry is told of a request and of its answer, as plain values."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

__all__ = ["NANOSECONDS", "AnswerFacts", "Asked", "StageTime", "Texts", "stages_of"]

Texts = Literal["none", "shown", "full"]
NANOSECONDS: Final = 1_000_000_000
# What a type of an error looks like; anything else might be a text.
_TYPE = re.compile(r"[A-Za-z_]\w{0,79}")
_OTHER = "_OTHER"


class StageTime(NamedTuple):
    """When a stage ran.

    Attributes:
        stage: Its name.
        began: When, in nanoseconds since 1970.
        seconds: How long it took.
    """

    stage: str
    began: int
    seconds: float


def stages_of(began: int, timings: Mapping[str, float], decided: int, deciding_s: float) -> list[StageTime]:
    """The stages of an answer that was made in one run of the model.

    Args:
        began: When the model began with its batch, in nanoseconds since 1970.
        timings: Seconds of the stages of the batch, which follow each other.
        decided: When it was begun to be decided on.
        deciding_s: Seconds that took.
    """
    stages = []
    at = began
    for key, stage in (("answer_s", "answer"), ("score_s", "score"), ("sentences_s", "score_sentences")):
        if key in timings:
            seconds = max(0.0, timings[key])
            stages.append(StageTime(stage, at, seconds))
            at += int(seconds * NANOSECONDS)
    return [*stages, StageTime("decide", decided, max(0.0, deciding_s))]


class Asked(NamedTuple):
    """A request.

    Attributes:
        request: Its id.
        is_read: Whether an answer from elsewhere is read, and none generated.
        messages: What was asked.
    """

    request: str
    is_read: bool
    messages: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class AnswerFacts:
    """What is known of an answer that was decided on.

    Attributes:
        request: Its id.
        action: What was done.
        rule: Id of the rule that decided.
        reason: Why, in words.
        has_names: Whether these may name an author, by the word of a client or of an upstream server.
        enforced: Whether it counts.
        confidence: Probability of being correct, 0 to 1; None where it is not known.
        familiar: Whether the traffic is like the profile's; None where that is not known.
        error: What failed: types of errors, each with a sentence, ``;`` between; or empty.
        finish_reason: Why the draft ended.
        input_tokens: Tokens that were read.
        output_tokens: Tokens that were written.
        reasoning_tokens: Those of them that are reasoning.
        stages: When each stage ran.
        batch_size: Requests that were run together; None where the model did not run.
        shown: The text that is shown.
        draft: What the model answered.
    """

    request: str
    action: str
    rule: str
    reason: str
    has_names: bool
    enforced: bool
    confidence: float | None
    familiar: str | None
    error: str
    finish_reason: str | None
    input_tokens: int | None
    output_tokens: int | None
    reasoning_tokens: int
    stages: Sequence[StageTime]
    batch_size: int | None
    shown: str = field(repr=False)
    draft: str | None = field(repr=False)

    @property
    def error_types(self) -> list[str]:
        """The types of what failed."""
        named = [part.partition(":") for part in self.error.split("; ")]
        kinds = dict.fromkeys(kind for kind, colon, _ in named if colon and _TYPE.fullmatch(kind))
        return [*kinds] or ([_OTHER] if self.error else [])
