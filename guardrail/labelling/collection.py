"""Answers collected for a profile: stored ones are reused, judged again if necessary, and missing ones made.

The outcome of a run is described here for calibration and evaluation alike.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from guardrail.errors import CalibrationError, OptionError, RecordError
from guardrail.labelling.answers import (
    LABELLED,
    AnswerRecord,
    Judgement,
    parse_answer,
    read_answers,
)
from guardrail.labelling.judge import AnswerToJudge, Judge, judge_again
from guardrail.labelling.matching import ContainsJudge
from guardrail.labelling.provenance import provenance_of
from guardrail.labelling.questions import LabelOptions, Question, Questions, accepted_answers, grounded
from guardrail.scoring.batches import Failure, exit_status_of
from guardrail.scoring.candidate_positions import PromptEnd, prompt_end
from guardrail.utils.json_lines import as_json
from guardrail.utils.record_store import RecordStore
from guardrail.utils.threads import ProgressCallback

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel

__all__ = ["Collected", "LabelCounts", "answers_to", "check_answers", "collect", "no_answers", "reuse"]


_OTHER_FILE = "Choose another file with --answers, or start afresh with --overwrite."
_DAMAGED = "Mend or remove it, choose another file with --answers, or start afresh with --overwrite."


class JudgedAnswer(Protocol):
    """A record of an answer that was judged."""

    @property
    def digest(self) -> str:
        """What tells its question from another."""

    @property
    def correct(self) -> bool | None:
        """Whether it is right: what counts."""

    @property
    def judgement(self) -> Judgement:
        """What the judge said."""

    @property
    def is_corrected(self) -> bool:
        """Whether a person changed the label."""


Record = TypeVar("Record", bound=JudgedAnswer)


class LabelCounts(NamedTuple):
    """How many answers there are, and how they are labelled."""

    answers: int
    correct: int
    wrong: int
    unlabelled: int


@dataclass(frozen=True, slots=True)
class Collected(Generic[Record]):
    """Answers to questions.

    Attributes:
        records: The answers, labelled or not.
        failures: Lines without an answer.
        kept: How many of the answers had been stored before.
        judged_again: How many of those were judged again.
    """

    records: Sequence[Record]
    failures: Sequence[Failure]
    kept: int
    judged_again: int

    @property
    def judge(self) -> str:
        """Who decided what is correct, for the profile or the report."""
        counting = [record for record in self.records if record.correct is not None]
        names = sorted({str(one.judgement.judged_by) for one in counting if not one.is_corrected})
        by_hand = sum(one.is_corrected for one in counting)
        return ", ".join([*names, f"{by_hand} by hand"] if by_hand else names) or "nobody"

    @property
    def counts(self) -> LabelCounts:
        """How the answers are labelled."""
        labels = [record.correct for record in self.records]
        return LabelCounts(len(labels), labels.count(True), labels.count(False), labels.count(None))

    @property
    def judge_failures(self) -> int:
        """Answers without a label because the judge failed."""
        return len(self._failed_judgements)

    @property
    def judge_failure(self) -> str:
        """Why the judge failed the first time; empty if it never did."""
        return next((judgement.reason for judgement in self._failed_judgements), "")

    @property
    def exit_status(self) -> int:
        """0 if all went well, 2 if only lines were wrong, 1 if something failed."""
        return exit_status_of(self.failures, something_else_failed=self.judge_failures > 0)

    @property
    def _failed_judgements(self) -> list[Judgement]:
        return [one.judgement for one in self.records if one.judgement.failed and one.correct is None]


def answers_to(
    questions: Questions,
    store: RecordStore,
    parse: Callable[[str], Record],
    start: Callable[[Question], str],
    remedy: str,
    *,
    by_hand: bool = False,
) -> dict[str, Record]:
    """All answers in a file by digest; if there are several to one question, the last.

    Args:
        questions: The questions of this run.
        store: The file, open. New records are appended to it.
        parse: Reads a line of it.
        start: How the record of a question's answer begins.
        remedy: What to do if the file belongs to other questions.
        by_hand: Whether people edit the file.

    Raises:
        RecordError: The file holds something else.
        OptionError: It holds answers to other questions only, or cannot be read.
    """
    records = store.records(parse, map(start, questions.usable), by_hand=by_hand)
    stored = {record.digest: record for record in records}
    if stored and not any(question.digest in stored for question in questions.usable):
        raise OptionError(f"{store.path} holds answers to other questions. {remedy}")
    return stored


def check_answers(differences: Iterable[str], path: Path, remedy: str) -> None:
    """Refuse to resume from answers of a different provenance.

    Args:
        differences: For each answer, how its provenance differs, in words; empty if it does not.
        path: The file that holds the answers.
        remedy: What to do about it.

    Raises:
        OptionError: The provenance of an answer differs.
    """
    for difference in filter(None, differences):
        raise OptionError(f"An answer in {path} {difference}. {remedy}")


def no_answers(what: str, failures: Sequence[Failure], purpose: str) -> CalibrationError:
    """The error for a run in which no line led to an answer."""
    first = f" Line {failures[0].line}: {failures[0].reason}" if failures else ""
    return CalibrationError(f"{what}, so there is nothing to {purpose}.{first}")


def collect(
    questions: Questions,
    judge: Judge | None,
    path: str | Path,
    open_model: Callable[[], "LocalModel"],
    options: LabelOptions,
    *,
    model_name: str | None = None,
    recheck: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> Collected[AnswerRecord]:
    """Answer, score and judge questions, reusing the answers that a file already holds.

    A label that a person changed stays. Stored answers are judged again if their accepted answers changed, if
    the judge failed, or if a different judge is given.

    Args:
        questions: The questions.
        judge: The judge. None for ``contains``; stored labels then stay, whoever gave them.
        path: The file of answers.
        open_model: Opens the model. Not called if all answers are stored and were made by a model of this
            name.
        options: How to answer and score. If they name no t*, it is that of the stored answers; or else what
            is known of the model (:func:`guardrail.scoring.semantic_tokens.with_known_token`), or the rule
            for its chat template; and with each answer is kept what another t* can be chosen by.
        model_name: The name of the model; None to trust that of stored answers.
        recheck: Open the model and compare it even if its name is the same and no answer is missing.
        overwrite: Start afresh, whatever the file holds.
        progress: Told after each batch.

    Raises:
        RecordError: The file holds something else.
        OptionError: Its answers were made by another model or with other arguments, or it cannot be written.
        CalibrationError: No question could be answered.
        FileInUseError: Another run is writing the file.
    """
    if options.document_gain:
        questions = grounded(questions)
    if not questions.usable:
        raise no_answers("No line can be used", questions.refused, "calibrate with")
    with RecordStore(Path(path), _DAMAGED) as store:
        stored = (
            {} if overwrite else answers_to(questions, store, parse_answer, _start, _OTHER_FILE, by_hand=True)
        )
        asked = {question.digest: question for question in questions.usable}
        kept = [record for digest, record in stored.items() if digest in asked]
        is_named = options.scoring.semantic_token is not None and not options.scoring.known
        if is_named or any(record.scores and record.positions is None for record in kept):
            options = replace(options, keep_positions=False)
        if kept and options.scoring.semantic_token is None:
            position = kept[0].provenance.scorer.semantic_token
            options = replace(options, scoring=replace(options.scoring, semantic_token=position))
        if kept:
            # No model is open yet: that of each answer is taken on trust.
            now = provenance_of(options, kept[0].provenance.model)
            differences = (one.provenance.difference(now.with_model(one.provenance.model)) for one in kept)
            check_answers(differences, store.path, _OTHER_FILE)
        cases = [_asked_case(record, asked[record.digest]) for record in kept]
        again = _judged_again(cases, judge, store.path, progress)
        if again:
            store.rewrite(record.as_plain() for record in {**stored, **again}.values())
        results = {**{record.digest: record for record in kept}, **again}
        missing = [question for question in questions.usable if question.digest not in results]
        failures = list(questions.refused)
        if missing or recheck or any(model_name not in (None, one.provenance.model.name) for one in kept):
            if missing:
                _check_one_judge(results.values(), judge, store.path)
            for result in _answered(
                missing, results.values(), judge or ContainsJudge(), store, open_model(), options, progress
            ):
                if isinstance(result, Failure):
                    failures.append(result)
                else:
                    results[result.digest] = result
    if not results:
        raise no_answers("Not one question was answered", failures, "calibrate with")
    records = [results[question.digest] for question in questions.usable if question.digest in results]
    if is_named:
        # Nothing is to be chosen, whatever an earlier run kept to choose by.
        records = [replace(record, positions=None) for record in records]
    return Collected(records, sorted(failures), len(kept), len(again))


def _answered(
    questions: Sequence[Question],
    kept: Iterable[AnswerRecord],
    judge: Judge,
    store: RecordStore,
    model: "LocalModel",
    options: LabelOptions,
    progress: ProgressCallback | None,
) -> "Iterable[AnswerRecord | Failure]":
    """Answer questions, after checking that the stored answers are of the same model."""
    from guardrail.labelling.answering import label
    from guardrail.scoring.semantic_tokens import with_known_token

    kept = list(kept)
    if not kept:
        options = replace(options, scoring=with_known_token(options.scoring, model))
    provenance = provenance_of(options, model)
    check_answers((one.provenance.difference(provenance) for one in kept), store.path, _OTHER_FILE)
    end = None
    if questions and options.keep_positions:
        known = next((one.positions for one in kept if one.positions), None)
        end = PromptEnd(known.among, known.preservation) if known else prompt_end(model, progress)
    return label(
        model,
        questions,
        judge,
        options,
        provenance=provenance,
        output=store,
        done=len(kept),
        end=end,
        progress=progress,
    )


def reuse(
    path: str | Path,
    judge: Judge | None,
    output: str | Path | None = None,
    progress: ProgressCallback | None = None,
) -> Collected[AnswerRecord]:
    """Use the answers of a file, without their questions and without the model.

    Lines that are not answers are among the failures.

    Args:
        path: The file of answers.
        judge: Judges answers again that another judge judged, or failed on. None to keep the labels.
        output: The file that the answers are written to; by default the same file, if any were judged again.
        progress: Told about the answers judged.

    Raises:
        RecordError: The file holds no answers.
        OptionError: Its answers were made by several models, or in several ways.
        FileInUseError: Another run is writing the output file.
    """
    with RecordStore(Path(output or path), _DAMAGED) as store:
        return _reuse(Path(path), judge, store, progress)


def _reuse(
    path: Path, judge: Judge | None, store: RecordStore, progress: ProgressCallback | None
) -> Collected[AnswerRecord]:
    stored = read_answers(path)
    records = stored.records
    if not records:
        raise RecordError(f"{path} holds no answers.")
    first = records[0].provenance
    check_answers((record.provenance.difference(first) for record in records), path, _OTHER_FILE)
    cases = [_Case(record, _stored_case(record), record.fields) for record in records]
    again = _judged_again(cases, judge, path, progress)
    records = [again.get(record.digest, record) for record in records]
    if again or store.path != path:
        unread = [line.text for line in stored.unread] if store.path == path else []
        store.rewrite([record.as_plain() for record in records], unread)
    return Collected(records, stored.failures, len(records), len(again))


class _Case(NamedTuple):
    """A stored answer as it would be judged now, and the fields of its question."""

    record: AnswerRecord
    case: AnswerToJudge
    fields: Mapping[str, Any]


def _start(question: Question) -> str:
    """How the record of an answer to a question begins: what is passed through stands first."""
    return as_json(question.fields).removesuffix("}")


def _asked_case(record: AnswerRecord, question: Question) -> _Case:
    case = AnswerToJudge(question.text, record.response, question.accepted, question.correct)
    return _Case(record, case, question.fields)


def _stored_case(record: AnswerRecord) -> AnswerToJudge:
    if record.judgement.judged_by == LABELLED:
        return AnswerToJudge(record.question, record.response, (), record.judgement.correct)
    return AnswerToJudge(record.question, record.response, accepted_answers(record.fields))


def _judged_again(
    cases: Sequence[_Case], judge: Judge | None, path: Path, progress: ProgressCallback | None
) -> dict[str, AnswerRecord]:
    """Answers whose label is out of date, judged again, by digest."""
    due = [one for one in cases if _is_due(one.record, one.case, judge)]
    _check_one_judge([one.record for one in due if one.case.label is None], judge, path)
    judgements = judge_again(judge or ContainsJudge(), [one.case for one in due], progress)
    return {
        one.record.digest: one.record.judged(judgement, one.fields)
        for one, judgement in zip(due, judgements, strict=True)
    }


def _is_due(record: AnswerRecord, case: AnswerToJudge, judge: Judge | None) -> bool:
    """Whether a stored label may differ from the one that would be given now."""
    before = record.judgement
    if record.is_corrected or not record.scores:
        return False
    if case.label is not None:
        return before[:2] != (case.label, LABELLED)
    if before.judged_by == LABELLED or accepted_answers(record.fields) != tuple(case.accepted):
        return True
    if judge is None or (judge.needs_answers and not case.accepted):
        return False
    return before.failed or before.judged_by != judge.name


def _check_one_judge(records: Iterable[AnswerRecord], judge: Judge | None, path: Path) -> None:
    """Refuse to continue with the default judge where another judge began."""
    ours = {None, LABELLED, ContainsJudge().name}
    others = {record.judgement.judged_by for record in records} - ours
    if judge is None and others:
        names = ", ".join(sorted(str(name) for name in others))
        raise OptionError(
            f"The answers in {path} were judged by {names}. Name it with --judge, or another one to have all "
            "of them judged again."
        )
