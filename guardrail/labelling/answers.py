"""Answers that were scored and judged, and the file that keeps them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, ConfigDict

from guardrail.errors import RecordError
from guardrail.labelling.answer_facts import SINGLE_QUESTION, AnswerFacts, facts_of
from guardrail.labelling.provenance import Provenance, name_problem
from guardrail.labelling.questions import ANSWER_FIELDS, question_text
from guardrail.labelling.sentence_records import SentenceRecord
from guardrail.models.fingerprint import ModelFingerprint
from guardrail.scoring.batches import Failure
from guardrail.scoring.candidate_positions import CandidatePositions
from guardrail.scoring.options import ScorerFingerprint
from guardrail.scoring.uncertainty import HiddenState, Observation
from guardrail.utils.json_lines import json_object, shown, text_of
from guardrail.utils.record_store import (
    FiniteFloat,
    FrozenModel,
    StrictBool,
    UnreadLine,
    read_model,
    read_records,
)

__all__ = [
    "LABELLED",
    "AnswerRecord",
    "Judgement",
    "LabelledAnswer",
    "StoredAnswers",
    "is_answer",
    "last_answers",
    "parse_answer",
    "read_answers",
]


# Named as the judge where the file of questions says what is correct.
LABELLED = "labelled"


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """One answer that was judged.

    Attributes:
        observation: What the pass tells of it: scores, with "tokens" among them, and a hidden state.
        correct: Whether it is right.
        question: What was asked, for showing; answers to the same question belong together.
        response: What was answered, for showing.
        facts: How it came about; by default it answers a single question.
        group: Name of the conversation, passage or paraphrases that it belongs to; answers of one group stay
            in one part of the data. Empty for the question itself.
        kind: Kind of question, for guarantees of each kind; empty for none.
        positions: Where else SemGrad could be taken; None where that was not kept.
    """

    observation: Observation
    correct: bool
    question: str = ""
    response: str = ""
    facts: AnswerFacts = SINGLE_QUESTION
    group: str = ""
    kind: str = ""
    positions: CandidatePositions | None = None


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
        provenance: What made it.
        digest: The question's digest.
        positions: Where else SemGrad could be taken; None where that was not kept.
        sentences: Its sentences; None where they were not scored.
    """

    fields: Mapping[str, Any]
    response: str
    correct: bool | None
    judgement: Judgement
    finish_reason: str | None
    scores: Mapping[str, float]
    usage: Mapping[str, int]
    hidden: HiddenState | None
    provenance: Provenance[ScorerFingerprint]
    digest: str
    positions: CandidatePositions | None = None
    sentences: tuple[SentenceRecord, ...] | None = None

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

    @property
    def facts(self) -> AnswerFacts:
        """How it came about."""
        messages = self.fields.get("messages")
        if not isinstance(messages, list):
            messages = [{"role": "user", "content": self.question}]
        thought = self.usage.get("reasoning_tokens", 0)
        facts = facts_of(
            [message for message in messages if isinstance(message, Mapping)],
            self.response,
            prompt_tokens=self.usage.get("prompt_tokens"),
            answer_tokens=self.usage["completion_tokens"] - thought,
            cut_off=self.finish_reason == "length",
            reasoning="reasoning_tokens" in self.usage,
        )
        # The system message of a whole run is kept as its hash.
        given = self.provenance.generation.get("system_sha256")
        return replace(facts, system=given) if isinstance(given, str) and not facts.system else facts

    def judged(self, judgement: Judgement, fields: Mapping[str, Any] | None = None) -> "AnswerRecord":
        """The same answer, judged anew."""
        kept = self.fields if fields is None else fields
        return replace(self, correct=judgement.correct, judgement=judgement, fields=kept)

    def scored_at(self, position: int | None) -> "AnswerRecord":
        """The same answer, scored at another semantic token; as it is where that was not kept."""
        scorer, kept = self.provenance.scorer, self.positions
        if position is None or position == scorer.semantic_token:
            return self
        if kept is None or -position > len(kept.semgrad):
            return self
        made = replace(self.provenance, scorer=replace(scorer, semantic_token=position))
        return replace(self, scores=kept.scores_at(position, self.scores), provenance=made)

    def labelled(self, kind: str = "kind") -> LabelledAnswer | None:
        """The answer with its label; None where it has none, and does not count.

        Args:
            kind: Field of the question line that names its kind.
        """
        if self.correct is None or not self.scores:
            return None
        return LabelledAnswer(
            self.observation,
            self.correct,
            self.question,
            self.response,
            self.facts,
            group=_name(self.fields.get("group")),
            kind=_name(self.fields.get(kind)),
            positions=self.positions,
        )

    def facts_of_sentence(self, sentence: SentenceRecord) -> AnswerFacts:
        """How one of its sentences came about; the last alone may be cut off."""
        of_answer, form = self.facts, facts_of([], sentence.text).form
        cut_off = of_answer.cut_off and self.sentences is not None and sentence is self.sentences[-1]
        return replace(of_answer, form=form, answer_tokens=sentence.tokens, cut_off=cut_off)

    @property
    def labelled_sentences(self) -> list[LabelledAnswer]:
        """Its sentences with their labels, those that have one; they stay in one part of the data."""
        return [
            LabelledAnswer(
                one.observation,
                one.correct,
                self.question,
                one.text,
                self.facts_of_sentence(one),
                group=_name(self.fields.get("group")),
            )
            for one in self.sentences or ()
            if one.correct is not None
        ]

    def as_plain(self) -> dict[str, Any]:
        """The record as values for JSON: the question line's own fields first."""
        judgement, provenance = self.judgement, self.provenance
        line = _AnswerLine(
            response=self.response,
            correct=self.correct,
            judged_by=judgement.judged_by,
            reason=judgement.reason,
            finish_reason=self.finish_reason,
            uncertainty=dict(self.scores),
            usage=dict(self.usage),
            model=provenance.model.name,
            answered_by=provenance.answered_by,
            scoring=_ScoringLine(
                line=self.digest,
                response=_digest(self.response),
                verdict=judgement.correct,
                judge_failed=judgement.failed,
                model=_ModelLine.model_validate(provenance.model, from_attributes=True),
                scorer=provenance.scorer,
                generation=dict(provenance.generation),
                positions=self.positions,
            ),
            hidden=self.hidden,
            sentences=self.sentences,
        )
        # What is not there is not named, as in files of before it could be.
        unnamed: dict[str, Any] = {} if provenance.answered_by else {"answered_by": True}
        if self.sentences is None:
            unnamed["sentences"] = True
        if self.positions is None:
            unnamed["scoring"] = {"positions"}
        return {**self.fields, **line.model_dump(exclude=unnamed)}


class _ModelLine(FrozenModel):
    """The model that scored an answer; its name has a field of its own."""

    weights: str
    chat_template: str | None
    dtype: str
    quantization: str | None


class _ScoringLine(FrozenModel):
    """What a line says of how its answer was made and judged. Nobody edits it."""

    model_config = ConfigDict(extra="ignore")

    line: str
    response: str
    verdict: StrictBool | None
    judge_failed: StrictBool = False
    model: _ModelLine
    scorer: ScorerFingerprint
    generation: dict[str, Any]
    positions: CandidatePositions | None = None


class _AnswerLine(FrozenModel):
    """A line of a file of answers, but for what it passes through from its question.

    People edit ``correct``, and what an editor did to ``reason`` or ``judged_by`` harms nothing.
    """

    model_config = ConfigDict(extra="ignore")

    response: str
    correct: StrictBool | None = None
    judged_by: str | None = None
    reason: Annotated[str, BeforeValidator(str)] = ""
    finish_reason: str | None = None
    uncertainty: dict[str, FiniteFloat]
    usage: dict[str, int]
    model: str
    answered_by: str | None = None
    scoring: _ScoringLine
    hidden: HiddenState | None = None
    sentences: tuple[SentenceRecord, ...] | None = None

    def record(self, fields: Mapping[str, Any]) -> AnswerRecord:
        """The answer that the line holds."""
        scoring = self.scoring
        model = ModelFingerprint(self.model, **scoring.model.model_dump())
        return AnswerRecord(
            fields=fields,
            response=self.response,
            correct=self.correct,
            judgement=Judgement(scoring.verdict, self.judged_by, self.reason, scoring.judge_failed),
            finish_reason=self.finish_reason,
            scores=self.uncertainty,
            usage=self.usage,
            hidden=self.hidden,
            provenance=Provenance(model, scoring.scorer, scoring.generation, self.answered_by),
            digest=scoring.line,
            positions=scoring.positions,
            sentences=self.sentences,
        )


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
    author = values.get("answered_by")
    if author is not None and (problem := name_problem(author)):
        raise RecordError(f"answered_by {problem}.")
    return read_model(_AnswerLine, values).record(
        {name: value for name, value in values.items() if name not in ANSWER_FIELDS}
    )


def _name(value: Any) -> str:
    return "" if value is None else str(value)


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
