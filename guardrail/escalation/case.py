"""Cases that somebody else is to answer or review, their items in a queue, and the labels people give."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, get_args

from typing_extensions import TypedDict

from guardrail.errors import OptionError
from guardrail.escalation.verdict import (
    AttemptOutcome,
    TargetKind,
    Verdict,
    VerdictAttempt,
    VerdictEscalation,
)
from guardrail.utils.json_lines import plain_json

__all__ = [
    "Answered",
    "Attempt",
    "Case",
    "CaseRecord",
    "Escalation",
    "Item",
    "ItemDocument",
    "LabelRecord",
    "PersonsAnswer",
    "PersonsAnswerRecord",
    "Queued",
    "ReviewLabel",
    "Status",
    "check_answer",
    "is_blank",
    "labels",
]


@dataclass(frozen=True, slots=True)
class Case:
    """One question that somebody else is to answer, or whose draft they are to review.

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
        verdict: The whole verdict as it stood when the case was handed over: it says nothing yet of what
            comes of the escalation. Cases of before this was recorded have none.
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
    verdict: Verdict | None = field(default=None, repr=False)

    def as_plain(self) -> "CaseRecord":
        """The fields by name, ready for JSON, whatever the messages hold."""
        plain: CaseRecord = plain_json(self)
        return plain


class _CaseFacts(TypedDict):
    messages: list[dict[str, Any]]
    draft: str
    rule: str
    reason: str
    confidence: float | None
    scores: dict[str, float]
    finish_reason: str | None
    tags: list[str]
    model: str
    answered_by: str
    policy_digest: str
    profile_digest: str | None
    verdict: Verdict | None


class CaseRecord(_CaseFacts):
    """A case as a queue's file has it; each key is the field of :class:`Case` of that name."""

    id: str


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
    outcome: AttemptOutcome
    error: str
    seconds: float

    def as_plain(self) -> VerdictAttempt:
        """The fields by name."""
        return VerdictAttempt(
            target=self.target, kind=self.kind, outcome=self.outcome, error=self.error, seconds=self.seconds
        )


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

    def as_plain(self) -> VerdictEscalation:
        """Plain values for JSON, without the answer."""
        return VerdictEscalation(
            target=self.target,
            source=self.source,
            ticket=self.ticket,
            attempts=[attempt.as_plain() for attempt in self.attempts],
        )


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: no character, white space, or what has no shape of its own."""
    return not any(character.isprintable() and not character.isspace() for character in text)


Status = Literal["waiting", "answered"]
ReviewLabel = Literal["approve", "edit", "reject"]


class PersonsAnswerRecord(TypedDict):
    """What a person said; each key is the field of :class:`PersonsAnswer` of that name."""

    verdict: ReviewLabel
    text: str | None
    by: str
    at: str


@dataclass(frozen=True, slots=True)
class PersonsAnswer:
    """What a person said.

    Attributes:
        verdict: ``approve`` the draft as it is, ``edit`` it, or ``reject`` it.
        text: The person's own text, where they edited.
        by: Who it was.
        at: When, ISO 8601 in UTC.
    """

    verdict: ReviewLabel
    text: str | None
    by: str
    at: str

    def as_plain(self) -> PersonsAnswerRecord:
        """The fields by name."""
        return PersonsAnswerRecord(verdict=self.verdict, text=self.text, by=self.by, at=self.at)

    def says_the_same_as(self, other: "PersonsAnswer") -> bool:
        """Whether it is the same answer of the same person, whenever it was given."""
        return (self.verdict, self.text, self.by) == (other.verdict, other.text, other.by)


class ItemDocument(_CaseFacts):
    """An item of a queue as ``guardrail queue --json`` prints it: the case, whose id is the ticket.

    Attributes:
        ticket: What it is asked for by.
        created: When it was queued, ISO 8601 in UTC.
        status: ``waiting`` or ``answered``.
        answer: What a person said; null while it waits.
        problem: Why its record cannot be read; only where it cannot.
    """

    ticket: str
    created: str
    status: Status
    answer: PersonsAnswerRecord | None
    problem: NotRequired[str]


class LabelRecord(TypedDict):
    """What a person said of a draft, as a line that ``guardrail calibrate`` reads.

    Attributes:
        messages: What was asked.
        response: The draft.
        correct: Whether the person approved it as it was.
        model: Who gave the draft, where that was recorded.
        scorer: Which model scored it, likewise.
        finish_reason: Why the draft ended, where that is known.
        correction: The person's own text, where they edited.
        ticket: Of the case.
        labelled_by: Who the person was.
        labelled_at: When they said so, ISO 8601 in UTC.
    """

    messages: list[dict[str, Any]]
    response: str
    correct: bool
    model: NotRequired[str]
    scorer: NotRequired[str]
    finish_reason: NotRequired[str]
    correction: NotRequired[str]
    ticket: str
    labelled_by: str
    labelled_at: str


@dataclass(frozen=True, slots=True)
class Item:
    """One case in a queue.

    Attributes:
        ticket: What it is asked for by.
        created: When it was queued, ISO 8601 in UTC.
        case: What was handed over.
        answer: What a person said; None while it waits.
        problem: Why its record cannot be read; empty where it can. The case is then an empty one.
    """

    ticket: str
    created: str
    case: Case
    answer: PersonsAnswer | None = None
    problem: str = ""

    @property
    def status(self) -> Status:
        """Whether a person answered."""
        return "waiting" if self.answer is None else "answered"

    @property
    def text(self) -> str | None:
        """What may be shown: the draft if it was approved, the person's text if they edited it."""
        if self.answer is None or self.answer.verdict == "reject":
            return None
        return self.case.draft if self.answer.verdict == "approve" else self.answer.text

    def as_plain(self) -> ItemDocument:
        """Plain values for JSON."""
        record = self.case.as_plain()
        said = self.answer
        document = ItemDocument(
            ticket=self.ticket,
            created=self.created,
            status=self.status,
            messages=record["messages"],
            draft=record["draft"],
            rule=record["rule"],
            reason=record["reason"],
            confidence=record["confidence"],
            scores=record["scores"],
            finish_reason=record["finish_reason"],
            tags=record["tags"],
            model=record["model"],
            answered_by=record["answered_by"],
            policy_digest=record["policy_digest"],
            profile_digest=record["profile_digest"],
            verdict=record["verdict"],
            answer=said.as_plain() if said is not None else None,
        )
        if self.problem:
            document["problem"] = self.problem
        return document


def check_answer(case: Case, verdict: ReviewLabel, text: str | None) -> None:
    """Refuse what cannot be an answer to this case.

    Raises:
        OptionError: No such verdict, an edit without a text, or the approval of a draft that is empty.
    """
    if verdict not in get_args(ReviewLabel):
        raise OptionError(f"{verdict!r} is no verdict; it can be {', '.join(get_args(ReviewLabel))}.")
    if (verdict == "edit") != (text is not None):
        raise OptionError("edit comes with a text, approve and reject without one.")
    if text is not None and is_blank(text):
        raise OptionError("The text is empty. To withhold the answer, reject it.")
    if verdict == "approve" and is_blank(case.draft):
        raise OptionError("There is no draft to approve: the model gave no answer. Edit it, or reject it.")


def labels(items: Iterable[Item]) -> Iterator[LabelRecord]:
    """What people said as lines that ``guardrail calibrate`` reads: was the model's own draft correct?

    Each names who gave the draft as ``model``, for whom a profile made of it holds, and who scored it as
    ``scorer``. An edited draft counts as wrong, and the person's text stands beside it as ``correction``.
    Cases without a draft say nothing of the model and are left out.

    These are the answers that a policy did not let through: a profile made of them alone would not hold for
    all traffic. Join them with answers that were not chosen.
    """
    for item in items:
        case, said = item.case, item.answer
        if said is None or is_blank(case.draft):
            continue
        label = LabelRecord(
            messages=[dict(message) for message in case.messages],
            response=case.draft,
            correct=said.verdict == "approve",
            ticket=item.ticket,
            labelled_by=said.by,
            labelled_at=said.at,
        )
        if case.answered_by:
            label["model"], label["scorer"] = case.answered_by, case.model
        if case.finish_reason is not None:
            label["finish_reason"] = case.finish_reason
        if said.text is not None:
            label["correction"] = said.text
        yield label
