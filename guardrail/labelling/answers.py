"""An answer that was scored and judged, its line in a file of answers, and the reading of such a file."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from guardrail.errors import RecordError
from guardrail.labelling.author import name_problem
from guardrail.labelling.observation import HiddenState, Observation, packed_hidden, unpacked_hidden
from guardrail.labelling.questions import ANSWER_FIELDS, question_text
from guardrail.models.fingerprint import ModelFingerprint, difference_in
from guardrail.scoring.batches import Failure
from guardrail.scoring.options import ScorerFingerprint
from guardrail.utils.json_lines import json_object, kind_of, shown, text_of
from guardrail.utils.record_store import UnreadLine, read_records

__all__ = [
    "LABELLED",
    "AnswerMaker",
    "AnswerRecord",
    "Judgement",
    "LabelledAnswer",
    "StoredAnswers",
    "is_answer",
    "last_answers",
    "parse_answer",
    "read_answers",
]


# Who judged, where the file of questions said what is correct.
LABELLED = "labelled"


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """One answer that was judged.

    Attributes:
        observation: What the pass tells of it: scores, with "tokens" among them, and a hidden state.
        correct: Whether it is right.
        question: What was asked, for showing; answers to the same question belong together.
        response: What was answered, for showing.
    """

    observation: Observation
    correct: bool
    question: str = ""
    response: str = ""


@dataclass(frozen=True, slots=True)
class AnswerMaker:
    """What made an answer: a profile holds for answers of one maker.

    Attributes:
        model: The model that scored it.
        scorer: How the answer was scored.
        generation: Arguments that it was generated with.
        answered_by: Who gave it, by a declared name; None for the model itself.
    """

    model: ModelFingerprint
    scorer: ScorerFingerprint
    generation: Mapping[str, Any]
    answered_by: str | None = None

    def difference(self, other: "AnswerMaker") -> str:
        """What keeps another from being the same, in words; empty where nothing does."""
        return difference_in(self._arguments(), other._arguments())

    def _arguments(self) -> dict[str, Any]:
        author = (self.answered_by or "the model itself").casefold()
        made = {**self.model.as_plain(), **self.scorer.as_plain(), **self.generation}
        return {**made, "answered_by": author}


class Judgement(NamedTuple):
    """What came of judging an answer.

    Attributes:
        correct: Whether it is right; None where nobody could tell.
        judged_by: The judge's name, ``labelled``, or None where nobody was asked.
        reason: Why, in words.
        failed: Whether the judge was asked and raised.
    """

    correct: bool | None
    judged_by: str | None
    reason: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """One answer, as a file of answers holds it.

    Attributes:
        fields: The question line's own fields.
        response: What was answered.
        correct: Whether it is right: what counts. A person may have changed it.
        judgement: What the judge said.
        finish_reason: Why the answer ended: ``stop``, ``length``, ``reasoning_length`` (there is none), or
            None where it is not known.
        scores: Its uncertainty scores by name; none where there is no answer.
        usage: Tokens read and written, and thought.
        hidden: Its hidden state at one depth, if it was kept.
        maker: What made it.
        digest: The question's digest.
    """

    fields: Mapping[str, Any]
    response: str
    correct: bool | None
    judgement: Judgement
    finish_reason: str | None
    scores: Mapping[str, float]
    usage: Mapping[str, int]
    hidden: HiddenState | None
    maker: AnswerMaker
    digest: str

    @property
    def question(self) -> str:
        """What was asked."""
        return question_text(self.fields)

    @property
    def is_corrected(self) -> bool:
        """Whether a person changed the label."""
        return self.correct is not self.judgement.correct

    @property
    def observation(self) -> Observation:
        """What the pass tells of it."""
        tokens = self.usage["completion_tokens"] - self.usage.get("reasoning_tokens", 0)
        return Observation({**self.scores, "tokens": float(tokens)}, self.hidden)

    def judged(self, judgement: Judgement, fields: Mapping[str, Any] | None = None) -> "AnswerRecord":
        """The same answer, judged anew."""
        kept = self.fields if fields is None else fields
        return replace(self, correct=judgement.correct, judgement=judgement, fields=kept)

    def labelled(self) -> LabelledAnswer | None:
        """The answer with its label; None where it has none, and does not count."""
        if self.correct is None or not self.scores:
            return None
        return LabelledAnswer(self.observation, self.correct, self.question, self.response)

    def as_plain(self) -> dict[str, Any]:
        """The record as values for JSON."""
        model = self.maker.model.as_plain()
        name = model.pop("name")
        judgement = self.judgement
        return {
            **self.fields,
            "response": self.response,
            "correct": self.correct,
            "judged_by": judgement.judged_by,
            "reason": judgement.reason,
            "finish_reason": self.finish_reason,
            "uncertainty": dict(self.scores),
            "usage": dict(self.usage),
            "model": name,
            # Answers of before who gave them was recorded are taken to be the model's.
            **({} if self.maker.answered_by is None else {"answered_by": self.maker.answered_by}),
            "scoring": {
                "line": self.digest,
                "response": _digest(self.response),
                "verdict": judgement.correct,
                "judge_failed": judgement.failed,
                "model": model,
                "scorer": self.maker.scorer.as_plain(),
                "generation": dict(self.maker.generation),
            },
            "hidden": packed_hidden(self.hidden),
        }


def is_answer(values: Mapping[str, Any]) -> bool:
    """Whether a line is the record of an answer, rather than a question."""
    scoring = values.get("scoring")
    return isinstance(scoring, dict) and "verdict" in scoring and "uncertainty" in values


def holds_answers(lines: Iterable[str]) -> bool:
    """Whether a file of JSON lines holds answers, rather than questions: as its first object does."""
    for line in lines:
        try:
            return is_answer(json_object(line))
        except RecordError:
            continue
    return False


def parse_answer(line: str) -> AnswerRecord:
    """Read a record back.

    Raises:
        RecordError: It is none, or was changed where it must not be.
    """
    values = json_object(line)
    if not is_answer(values):
        raise RecordError("It is no answer that guardrail calibrate stored.")
    scoring = values["scoring"]
    correct = values.get("correct")
    if correct is not None and not isinstance(correct, bool):
        raise RecordError(f"correct is {shown(correct)}; it can be true, false or null.")
    response = text_of(values.get("response"), "response")
    if scoring.get("response") != _digest(response):
        raise RecordError("The response was changed, and its scores are those of the one before.")
    try:
        return AnswerRecord(
            fields={name: value for name, value in values.items() if name not in ANSWER_FIELDS},
            response=response,
            correct=correct,
            judgement=Judgement(
                scoring["verdict"],
                values.get("judged_by"),
                str(values.get("reason", "")),
                bool(scoring.get("judge_failed")),
            ),
            finish_reason=values.get("finish_reason"),
            scores=_scores(values["uncertainty"]),
            usage={name: int(count) for name, count in values["usage"].items()},
            hidden=unpacked_hidden(values.get("hidden")),
            maker=AnswerMaker(
                ModelFingerprint(name=values["model"], **scoring["model"]),
                ScorerFingerprint(**scoring["scorer"]),
                dict(scoring["generation"]),
                _author(values.get("answered_by")),
            ),
            digest=scoring["line"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordError(f"A part of it is missing or was changed: {error}.") from error


def _author(name: Any) -> str | None:
    if name is not None and (problem := name_problem(name)):
        raise RecordError(f"answered_by {problem}.")
    return None if name is None else str(name)


def _scores(values: Mapping[str, Any]) -> dict[str, float]:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise RecordError(f"uncertainty.{name} is {kind_of(value)}, and a finite number is expected.")
    return {name: float(value) for name, value in values.items()}


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


class StoredAnswers(NamedTuple):
    """What a file of answers holds.

    Attributes:
        records: The answers; of several to one question, the last.
        unread: Lines that hold none, and why.
    """

    records: Sequence[AnswerRecord]
    unread: Sequence[UnreadLine] = ()

    @property
    def failures(self) -> list[Failure]:
        """The lines that hold none, as they are told."""
        return [Failure(number, str(why), why.exit_status) for number, why, _ in self.unread]


def read_answers(path: str | Path) -> StoredAnswers:
    """Read a file of answers. A line of it that cannot be used is told; the others count.

    Raises:
        RecordError: The file cannot be read, or holds no answer.
    """
    try:
        stored = read_records(Path(path), parse_answer)
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.") from error
    records = last_answers([*stored.records, *([] if stored.last is None else [stored.last])])
    if stored.problems and not records:
        number, problem, _ = stored.problems[0]
        raise RecordError(f"Line {number} of {path} cannot be used: {problem}")
    return StoredAnswers(records, stored.problems)


def last_answers(records: Sequence[AnswerRecord]) -> list[AnswerRecord]:
    """Of several answers to one question, the last."""
    return list({record.digest: record for record in records}.values())
