"""A case: an answer that somebody else is to give or to judge; its item in a queue, and labels of people."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from guardrail.errors import OptionError
from guardrail.utils.json_lines import plain_json

__all__ = [
    "Answered",
    "Attempt",
    "Case",
    "Escalation",
    "Item",
    "Outcome",
    "PersonsAnswer",
    "Queued",
    "ReviewLabel",
    "Status",
    "TargetKind",
    "is_blank",
    "labels",
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


Status = Literal["waiting", "answered"]
ReviewLabel = Literal["approve", "edit", "reject"]


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

    def says_the_same_as(self, other: "PersonsAnswer") -> bool:
        """Whether it is the same answer of the same person, whenever it was given."""
        return (self.verdict, self.text, self.by) == (other.verdict, other.text, other.by)


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

    def as_plain(self) -> dict[str, Any]:
        """Plain values for JSON."""
        case = self.case.as_plain()
        del case["id"]
        said = self.answer
        answer = said and {"verdict": said.verdict, "text": said.text, "by": said.by, "at": said.at}
        return {
            "ticket": self.ticket,
            "created": self.created,
            "status": self.status,
            **case,
            "answer": answer,
            **({"problem": self.problem} if self.problem else {}),
        }


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


def labels(items: Iterable[Item]) -> Iterator[dict[str, Any]]:
    """What people said as lines that ``guardrail calibrate`` reads: was the model's own draft correct?

    Each names who gave the draft as ``model``, for whom a profile made of it holds, and who scored it as
    ``scorer``. An edited draft counts as wrong, and the person's text stands beside it as ``correction``.
    Cases without a draft say nothing of the model and are left out.

    These are the answers that a policy did not let through: a profile made of them alone would not hold for
    all traffic. Join them with answers that were not chosen.
    """
    for item in items:
        if item.answer is None or is_blank(item.case.draft):
            continue
        line: dict[str, Any] = {
            "messages": [dict(message) for message in item.case.messages],
            "response": item.case.draft,
            "correct": item.answer.verdict == "approve",
        }
        if item.case.answered_by:
            line |= {"model": item.case.answered_by, "scorer": item.case.model}
        if item.case.finish_reason is not None:
            line["finish_reason"] = item.case.finish_reason
        if item.answer.text is not None:
            line["correction"] = item.answer.text
        yield {**line, "ticket": item.ticket, "labelled_by": item.answer.by, "labelled_at": item.answer.at}
