"""Answers collected for an evaluation: stored ones are reused and completed, and missing ones made."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from guardrail.evaluation.evaluated_answers import EvaluatedAnswer, parse_evaluated
from guardrail.evaluation.requirements import EvaluationOptions, Needs
from guardrail.labelling.answers import LABELLED
from guardrail.labelling.collection import Collected, answers_to, check_answers, no_answers
from guardrail.labelling.judge import AnswerToJudge, Judge, judge_again
from guardrail.labelling.questions import Question, Questions
from guardrail.scoring.batches import Failure
from guardrail.utils.json_lines import as_json
from guardrail.utils.record_store import RecordStore
from guardrail.utils.threads import ProgressCallback

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel

__all__ = ["REMEDY", "collect_answers", "default_token", "stored_answers"]


REMEDY = "Choose another file with --output, or start afresh with --overwrite."


def collect_answers(
    questions: Questions,
    judge: Judge,
    store: RecordStore,
    kept: Mapping[str, EvaluatedAnswer],
    open_model: Callable[[], "LocalModel"],
    needs: Needs,
    options: EvaluationOptions,
    *,
    model_name: str | None = None,
    recheck: bool = False,
    progress: ProgressCallback | None = None,
) -> Collected[EvaluatedAnswer]:
    """Answer, score and judge questions, reusing what a file of results already holds.

    An answer in the file stays, and whatever the methods need and it lacks is added. It is judged again if
    its accepted answers changed, if the judge failed, or if a different judge is given.

    Args:
        questions: The questions.
        judge: The judge.
        store: The file of results, open.
        kept: The answers that it holds already: :func:`stored_answers`.
        open_model: Opens the model. Not called if nothing is missing and the model has the same name.
        needs: What is to be known of each answer.
        options: How to answer.
        model_name: The name of the model; None to trust that of stored answers.
        recheck: Open the model and compare it even if its name is the same and nothing is missing.
        progress: Told of each batch.

    Raises:
        OptionError: Its answers were made by another model or with other arguments, or it cannot be written.
        CalibrationError: No question could be answered.
    """
    if not questions.usable:
        raise no_answers("No line can be used", questions.refused, "evaluate")
    asked = {question.digest: question for question in questions.usable}
    check_answers((needs.difference(one, None) for one in kept.values()), store.path, REMEDY)
    again = _judged_again(kept, asked, judge, progress)
    results = {**kept, **again}
    incomplete = [one for one in questions.usable if not needs.are_met(results.get(one.digest))]
    failures = list(questions.refused)
    names = {record.provenance.model.name for record in kept.values()}
    for record in again.values():
        store.append(record.as_plain())
    if incomplete or recheck or (model_name and names - {model_name}):
        model = open_model()
        for result in _completed(model, incomplete, judge, needs, options, results, store, progress):
            if isinstance(result, Failure):
                failures.append(result)
            else:
                store.append(result.as_plain())
                results[result.digest] = result
    complete = [results[digest] for digest in asked if needs.are_met(results.get(digest))]
    if not complete:
        raise no_answers("Not one question was answered", failures, "evaluate")
    return Collected(complete, sorted(failures), len(kept), len(again))


def stored_answers(store: RecordStore, questions: Questions) -> dict[str, EvaluatedAnswer]:
    """The answers to these questions in a file of results; new ones are then appended to the file.

    Args:
        store: The file of results, open.
        questions: The questions.

    Returns:
        The answers by digest; if there are several to one question, the last.

    Raises:
        RecordError: The file holds something else.
        OptionError: It holds answers to other questions, or cannot be read.
    """
    stored = answers_to(questions, store, parse_evaluated, _start, REMEDY)
    asked = {question.digest for question in questions.usable}
    return {digest: record for digest, record in stored.items() if digest in asked}


def default_token(kept: Mapping[str, EvaluatedAnswer], of_model: Callable[[], int | None]) -> int | None:
    """t* of gradients that name none: the one that the file of results was begun with.

    Args:
        kept: The answers in the file.
        of_model: Gives the position for the model, or None for the rule of its chat template. Not called if
            the file has an answer.

    Returns:
        The position, counted from the end of the prompt, or None.
    """
    for record in kept.values():
        return record.provenance.scorer.semantic_token
    return of_model()


def _completed(
    model: "LocalModel",
    questions: Sequence[Question],
    judge: Judge,
    needs: Needs,
    options: EvaluationOptions,
    results: Mapping[str, EvaluatedAnswer],
    store: RecordStore,
    progress: ProgressCallback | None,
) -> Iterator[EvaluatedAnswer | Failure]:
    from guardrail.evaluation.run import evaluate_answers
    from guardrail.models.fingerprint import fingerprint_model

    fingerprint = fingerprint_model(model)
    check_answers((needs.difference(one, fingerprint) for one in results.values()), store.path, REMEDY)
    lacking = {one.digest for one in questions}
    kept = {digest: record for digest, record in results.items() if digest in lacking}
    return evaluate_answers(
        model,
        questions,
        judge,
        needs,
        options,
        kept,
        needs.provenance(fingerprint),
        done=len(results) - len(kept),
        progress=progress,
    )


def _start(question: Question) -> str:
    """How the record of an answer to a question begins."""
    return as_json({"question": question.text, "messages": []}).removesuffix("]}")


def _judged_again(
    kept: Mapping[str, EvaluatedAnswer],
    asked: Mapping[str, Question],
    judge: Judge,
    progress: ProgressCallback | None,
) -> dict[str, EvaluatedAnswer]:
    cases = []
    for digest, record in kept.items():
        question, before = asked[digest], record.judgement
        by = LABELLED if question.correct is not None else judge.name
        changed = tuple(record.accepted) != tuple(question.accepted) or (
            question.correct is not None and question.correct is not before.correct
        )
        if changed or before.failed or before.judged_by not in (by, None):
            case = AnswerToJudge(question.text, record.answered.response, question.accepted, question.correct)
            cases.append((record, question, case))
    judgements = judge_again(judge, [case for _, _, case in cases], progress)
    return {
        record.digest: record.judged(judgement, question.accepted)
        for (record, question, _), judgement in zip(cases, judgements, strict=True)
    }
