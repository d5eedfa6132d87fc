"""What is handed over with an answer that is not the model's to give, and what comes of it: plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from guardrail.utils.plain_json import plain_json

__all__ = [
    "Answered",
    "Attempt",
    "Case",
    "Escalation",
    "Outcome",
    "Queued",
    "TargetKind",
    "is_blank",
    "withholds",
]

TargetKind = Literal["chat_model", "callable", "queue"]
Outcome = Literal["answered", "queued", "failed"]


@dataclass(frozen=True, slots=True)
class Case:
    """One answer that somebody else is to give or to judge.

    Attributes:
        id: Of the request; the ticket of a queue and the decision log have the same.
        messages: What was asked, each with ``role`` and ``content``.
        draft: What the model answered; empty where it gave nothing.
        rule: Id of the rule that decided.
        reason: Why, in words for a person.
        confidence: Probability of the draft being correct, 0 to 1, where one is known.
        scores: The draft's uncertainty scores by name.
        finish_reason: Why the draft ended, where that is known.
        tags: What the caller said of the request.
        model: Name of the local model, which scored the draft.
        answered_by: Name of the model that gave the draft: that one, or another. Cases of before this was
            recorded say nothing.
        policy_digest: SHA-256 of the policy that decided.
        profile_digest: SHA-256 of the profile that it decided by, if there was one.
    """

    id: str
    messages: Sequence[Mapping[str, Any]] = field(repr=False)
    draft: str = field(repr=False)
    rule: str
    reason: str
    confidence: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    finish_reason: str | None = None
    tags: Sequence[str] = ()
    model: str = ""
    answered_by: str = ""
    policy_digest: str = ""
    profile_digest: str | None = None

    def as_plain(self) -> dict[str, Any]:
        """The fields by name, ready for JSON, whatever the messages hold."""
        plain: dict[str, Any] = plain_json(self)
        return plain


@dataclass(frozen=True, slots=True)
class Answered:
    """A target's own answer. It was not scored by the local model: nothing is known of its uncertainty.

    Attributes:
        text: The answer.
        source: What gave it: a model's name, or a function's.
    """

    text: str = field(repr=False)
    source: str


@dataclass(frozen=True, slots=True)
class Queued:
    """A person will answer. Given only once the case is safely on the disk.

    Attributes:
        ticket: What to ask for the answer by.
    """

    ticket: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One target that was tried.

    Attributes:
        target: Its name in the policy.
        kind: What it is.
        outcome: What came of it.
        error: Why it failed: the type of the error and a sentence without anything that was said; or empty.
        seconds: How long it took.
    """

    target: str
    kind: TargetKind
    outcome: Outcome
    error: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Escalation:
    """What came of an escalation.

    Attributes:
        attempts: Every target that was tried, in order.
        reply: What the last of them gave; None where all failed, and the answer is withheld.
    """

    attempts: tuple[Attempt, ...]
    reply: Answered | Queued | None = None

    @property
    def target(self) -> str | None:
        """Name of the target that took the case."""
        return self.attempts[-1].target if self.reply is not None else None

    @property
    def source(self) -> str | None:
        """What gave the answer that is shown, where it was not the local model."""
        return self.reply.source if isinstance(self.reply, Answered) else None

    @property
    def ticket(self) -> str | None:
        """What to ask a queue for the person's answer by."""
        return self.reply.ticket if isinstance(self.reply, Queued) else None

    def as_plain(self) -> dict[str, Any]:
        """Plain values for JSON, without the answer."""
        return {
            "target": self.target,
            "source": self.source,
            "ticket": self.ticket,
            "attempts": [asdict(attempt) for attempt in self.attempts],
        }


def withholds(verdict: Any) -> bool:
    """Whether a verdict, in its plain form, says that what it is on stands in the place of an answer.

    What a target answered does not; nor does what a policy that only observes would have withheld.
    """
    if not isinstance(verdict, Mapping) or verdict.get("enforced") is False:
        return False
    escalation = verdict.get("escalation")
    is_of_target = isinstance(escalation, Mapping) and bool(escalation.get("source"))
    return verdict.get("action") in ("abstain", "escalate") and not is_of_target


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: no character, white space, or what has no shape of its own."""
    return not any(character.isprintable() and not character.isspace() for character in text)
