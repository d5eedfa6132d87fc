"""The answers that a profile is made of: those stored, judged again where need be, and those missing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from guardrail.errors import CalibrationError, OptionError, RecordError
from guardrail.labelling.answers import (
    LABELLED,
    AnswerMaker,
    AnswerRecord,
    last_answers,
    parse_answer,
    read_answers,
)
from guardrail.labelling.judge import AnswerToJudge, Judge, judge_answers
from guardrail.labelling.matching import ContainsJudge
from guardrail.labelling.questions import (
    LabelOptions,
    Question,
    Questions,
    accepted_answers,
    generation_arguments,
)
from guardrail.scoring.batches import Failure
from guardrail.scoring.options import fingerprint_scorer
from guardrail.utils.json_lines import as_json
from guardrail.utils.progress import ProgressCallback, report
from guardrail.utils.record_store import RecordStore

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel

__all__ = ["Collected", "collect", "reuse"]


_OTHER_FILE = "Choose another file with --answers, or start afresh with --overwrite."
_DAMAGED = "Mend or remove it, choose another file with --answers, or start afresh with --overwrite."
# Answers judged between two reports of progress.
_JUDGED_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Collected:
    """Answers to questions.

    Attributes:
        records: The answers, labelled or not.
        maker: What made them.
        failures: Lines that no answer came out for.
        kept: How many of the answers were stored before.
        judged_again: How many of those were judged anew.
    """

    records: Sequence[AnswerRecord]
    maker: AnswerMaker
    failures: Sequence[Failure]
    kept: int
    judged_again: int

    @property
    def judge(self) -> str:
        """Who said what is correct, for the profile."""
        counting = [record for record in self.records if record.correct is not None]
        names = sorted({str(one.judgement.judged_by) for one in counting if not one.is_corrected})
        by_hand = sum(one.is_corrected for one in counting)
        return ", ".join([*names, f"{by_hand} by hand"] if by_hand else names) or "nobody"

    @property
    def judge_failures(self) -> int:
        """Answers without a label because the judge failed."""
        return sum(record.judgement.failed and record.correct is None for record in self.records)

    @property
    def exit_status(self) -> int:
        """0 if all went well, 2 if only lines were wrong, 1 if something failed."""
        statuses = {failure.exit_status for failure in self.failures}
        if self.judge_failures or statuses - {2}:
            return 1
        return 2 if statuses else 0


class _Case(NamedTuple):
    """A stored answer as it is to be judged now, and its question's fields."""

    record: AnswerRecord
    case: AnswerToJudge
    fields: Mapping[str, Any]


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
) -> Collected:
    """Answer, score and judge questions, going on with the answers that a file holds already.

    A label that a person changed stays. Stored answers are judged again where the accepted answers are others
    than before, where the judge failed, and where another judge is given.

    Args:
        questions: The questions.
        judge: The judge. None for ``contains``; stored labels then stay, whoever gave them.
        path: The file of answers.
        open_model: Opens the model. Not called where all answers are stored and by a model of this name.
        options: How to answer and score. Without a t*, stored answers say where; or else what is known of
            the model (:func:`guardrail.scoring.semantic_tokens.with_known_token`), or its template's rule.
        model_name: What the model is called; None to take that of stored answers on trust.
        recheck: Open the model, and compare it, also where it has this name and no answer is missing.
        overwrite: Start afresh, whatever is in the file.
        progress: Told of each batch.

    Raises:
        RecordError: The file holds something else.
        OptionError: Its answers were made by another model or with other arguments, or it cannot be written.
        CalibrationError: Not one question could be answered.
        FileInUseError: Another run writes the file.
    """
    if not questions.usable:
        raise CalibrationError(_nothing("No line can be used", questions.refused))
    with RecordStore(Path(path), _DAMAGED) as store:
        return _collect(
            questions,
            judge,
            store,
            open_model,
            options,
            model_name=model_name,
            recheck=recheck,
            overwrite=overwrite,
            progress=progress,
        )


def _collect(
    questions: Questions,
    judge: Judge | None,
    store: RecordStore,
    open_model: Callable[[], "LocalModel"],
    options: LabelOptions,
    *,
    model_name: str | None,
    recheck: bool,
    overwrite: bool,
    progress: ProgressCallback | None,
) -> Collected:
    path = store.path
    kept, judged_again = ([], 0) if overwrite else _keep(questions.usable, judge, store, options, progress)
    results = {record.digest: record for record in kept}
    missing = [question for question in questions.usable if question.digest not in results]
    failures = list(questions.refused)
    if missing or recheck or any(model_name not in (None, record.maker.model.name) for record in kept):
        from guardrail.labelling.answering import answer_maker, label

        if missing:
            _check_one_judge(kept, judge, path)
        model = open_model()
        options = _where_scored(kept, options, model)
        _check_maker(kept, answer_maker(model, options), path)
        for result in label(
            model,
            missing,
            judge or ContainsJudge(),
            options,
            output=store,
            done=len(kept),
            progress=progress,
        ):
            if isinstance(result, Failure):
                failures.append(result)
            else:
                results[result.digest] = result
    if not results:
        raise CalibrationError(_nothing("Not one question was answered", failures))
    records = [results[question.digest] for question in questions.usable if question.digest in results]
    return Collected(records, records[0].maker, sorted(failures), len(kept), judged_again)


def reuse(
    path: str | Path,
    judge: Judge | None,
    output: str | Path | None = None,
    progress: ProgressCallback | None = None,
) -> Collected:
    """Take the answers of a file, without the questions that they were made of and without the model.

    A line that holds none is among the failures.

    Args:
        path: The file of answers.
        judge: Judges answers that somebody else judged, or failed to. None to take the labels as they are.
        output: The file that the answers are written to; by default the same, where some were judged again.
        progress: Told of each answer judged.

    Raises:
        RecordError: It is no file of answers.
        OptionError: Its answers were made by several models, or in several ways.
        FileInUseError: Another run writes the file that they are written to.
    """
    with RecordStore(Path(output or path), _DAMAGED) as store:
        return _reuse(Path(path), judge, store, progress)


def _reuse(
    path: Path, judge: Judge | None, store: RecordStore, progress: ProgressCallback | None
) -> Collected:
    stored = read_answers(path)
    records = stored.records
    if not records:
        raise RecordError(f"{path} holds no answers.")
    maker = records[0].maker
    _check_maker(records, maker, path)
    cases = [_Case(record, _stored_case(record), record.fields) for record in records]
    fresh = _judge_again(cases, judge, path, progress)
    records = [fresh.get(record.digest, record) for record in records]
    if fresh or store.path != path:
        unread = [line.text for line in stored.unread] if store.path == path else []
        store.rewrite([record.as_plain() for record in records], unread)
    return Collected(records, maker, stored.failures, len(records), len(fresh))


def _keep(
    questions: Sequence[Question],
    judge: Judge | None,
    store: RecordStore,
    options: LabelOptions,
    progress: ProgressCallback | None,
) -> tuple[list[AnswerRecord], int]:
    """The stored answers to these questions, up to date with them and the judge, and how many that changed.

    The file is left ready for more.
    """
    path = store.path
    # What is passed through stands first in a record.
    starts = (as_json(question.fields).removesuffix("}") for question in questions)
    stored = last_answers(store.records(parse_answer, starts, by_hand=True))
    asked = {question.digest: question for question in questions}
    kept = [record for record in stored if record.digest in asked]
    if stored and not kept:
        raise OptionError(f"{path} holds answers to other questions. {_OTHER_FILE}")
    options = _where_scored(kept, options)
    scorer, generation = fingerprint_scorer(options.scoring), generation_arguments(options)
    for record in kept:
        _check_maker([record], AnswerMaker(record.maker.model, scorer, generation, options.answered_by), path)
    cases = [_asked_case(record, asked[record.digest]) for record in kept]
    fresh = _judge_again(cases, judge, path, progress)
    if fresh:
        store.rewrite(fresh.get(record.digest, record).as_plain() for record in stored)
    return [fresh.get(record.digest, record) for record in kept], len(fresh)


def _where_scored(
    kept: Sequence[AnswerRecord], options: LabelOptions, model: "LocalModel | None" = None
) -> LabelOptions:
    """The options with a t* where they name none: that of stored answers, or what is known of the model."""
    scoring = options.scoring
    if kept and scoring.semantic_token is None:
        scoring = replace(scoring, semantic_token=kept[0].maker.scorer.semantic_token)
    elif model is not None:
        from guardrail.scoring.semantic_tokens import with_known_token

        scoring = with_known_token(scoring, model)
    return replace(options, scoring=scoring)


def _asked_case(record: AnswerRecord, question: Question) -> _Case:
    case = AnswerToJudge(question.text, record.response, question.accepted, question.correct)
    return _Case(record, case, question.fields)


def _stored_case(record: AnswerRecord) -> AnswerToJudge:
    if record.judgement.judged_by == LABELLED:
        return AnswerToJudge(record.question, record.response, (), record.judgement.correct)
    return AnswerToJudge(record.question, record.response, accepted_answers(record.fields))


def _judge_again(
    cases: Sequence[_Case], judge: Judge | None, path: Path, progress: ProgressCallback | None
) -> dict[str, AnswerRecord]:
    """Those whose label does not hold any more, judged anew, by their digest."""
    due = [one for one in cases if _is_due(one.record, one.case, judge)]
    _check_one_judge([one.record for one in due if one.case.label is None], judge, path)
    judged: dict[str, AnswerRecord] = {}
    for low in range(0, len(due), _JUDGED_AT_ONCE):
        report(progress, "judging again", low, len(due))
        some = due[low : low + _JUDGED_AT_ONCE]
        judgements = judge_answers(judge or ContainsJudge(), [one.case for one in some])
        for one, judgement in zip(some, judgements, strict=True):
            judged[one.record.digest] = one.record.judged(judgement, one.fields)
    return judged


def _is_due(record: AnswerRecord, case: AnswerToJudge, judge: Judge | None) -> bool:
    """Whether the stored label is not that which would be given now."""
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


def _check_one_judge(records: Sequence[AnswerRecord], judge: Judge | None, path: Path) -> None:
    """Without being told, nobody goes on where another judge stopped."""
    ours = {None, LABELLED, ContainsJudge().name}
    others = {record.judgement.judged_by for record in records} - ours
    if judge is None and others:
        names = ", ".join(sorted(str(name) for name in others))
        raise OptionError(
            f"The answers in {path} were judged by {names}. Name it with --judge, or another one to have all "
            "of them judged again."
        )


def _check_maker(records: Sequence[AnswerRecord], maker: AnswerMaker, path: Path) -> None:
    for record in records:
        if difference := record.maker.difference(maker):
            raise OptionError(f"An answer in {path} {difference}. {_OTHER_FILE}")


def _nothing(what: str, failures: Sequence[Failure]) -> str:
    first = f" Line {failures[0].line}: {failures[0].reason}" if failures else ""
    return f"{what}, so there is nothing to calibrate with.{first}"
