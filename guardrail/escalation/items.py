"""What lies in a person's queue, and what a person may say to it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from guardrail.errors import OptionError
from guardrail.escalation.case import Case, is_blank

__all__ = ["Item", "PersonsAnswer", "Status", "Verdict", "labels"]

Status = Literal["waiting", "answered"]
Verdict = Literal["approve", "edit", "reject"]


@dataclass(frozen=True, slots=True)
class PersonsAnswer:
    """What a person said.

    Attributes:
        verdict: ``approve`` the draft as it is, ``edit`` it, or ``reject`` it.
        text: The person's own text, where they edited.
        by: Who it was.
        at: When, ISO 8601 in UTC.
    """

    verdict: Verdict
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


def check_answer(case: Case, verdict: Verdict, text: str | None) -> None:
    """Refuse what cannot be an answer to this case.

    Raises:
        OptionError: No such verdict, an edit without a text, or the approval of a draft that is empty.
    """
    if verdict not in get_args(Verdict):
        raise OptionError(f"{verdict!r} is no verdict; it can be {', '.join(get_args(Verdict))}.")
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
