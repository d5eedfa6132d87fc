"""Questions answered, scored in every way that is asked for, and judged, in batches."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from guardrail.calibration.asking import Job, batches, encode_question
from guardrail.calibration.judges.judge import Judge
from guardrail.calibration.judging import Case, judge_cases
from guardrail.calibration.questions import Question
from guardrail.errors import GuardrailError
from guardrail.evaluation.answering import Known, answer_batch, measure_memory
from guardrail.evaluation.needs import EvaluationOptions, Needs
from guardrail.evaluation.records import EvaluatedAnswer
from guardrail.models.progress import ProgressCallback, report
from guardrail.scoring.records import Failure
from guardrail.scoring.retrying import together_or_alone

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel

__all__ = ["evaluate_answers"]

# Questions of this many batches are put in order of length, so that little is wasted on padding.
_BATCHES_PER_WINDOW = 4


def evaluate_answers(
    model: "LocalModel",
    questions: Sequence[Question],
    judge: Judge,
    needs: Needs,
    options: EvaluationOptions,
    kept: Mapping[str, EvaluatedAnswer],
    maker: Mapping[str, Any],
    *,
    done: int = 0,
    progress: ProgressCallback | None = None,
) -> Iterator[EvaluatedAnswer | Failure]:
    """Answer, score and judge questions; each comes out as soon as its batch is done.

    An answer that an earlier run gave is not given again: what it lacks is added, by teacher forcing. A
    question that cannot be answered or scored comes out as a failure, and the others go on.

    Args:
        model: The model.
        questions: The questions.
        judge: Who says what is right, where the question does not.
        needs: What is to be known of each answer.
        options: How to answer.
        kept: Records of an earlier run, by digest.
        maker: What the records say of how they were made.
        done: How many were done before, for the progress.
        progress: Told of each batch.
    """
    total, finished = done + len(questions), done
    measured = _is_measured(kept, needs)
    size = options.batch_size * _BATCHES_PER_WINDOW
    report(progress, "answering", finished, total)
    for first in range(0, len(questions), size):
        jobs: list[Job] = []
        for question in questions[first : first + size]:
            try:
                jobs.append(_job(model, question, options.system, kept.get(question.digest)))
            except GuardrailError as error:
                finished += 1
                yield _failure(question, error)
        for batch in batches(model, jobs, options.sampling.max_tokens, options.batch_size):
            answers = together_or_alone(lambda some: answer_batch(model, some, needs, options, kept), batch)
            if not measured and isinstance(answers[0], Known):
                answers[0] = measure_memory(model, batch[0], answers[0], needs)
                measured = True
            yield from _judged(batch, answers, judge, maker, kept)
            finished += len(batch)
            report(progress, "answering", finished, total)


def _is_measured(kept: Mapping[str, EvaluatedAnswer], needs: Needs) -> bool:
    costs = [record.costs for record in kept.values()]
    ways = {way for one in costs for way in one.score_bytes}
    drawn = needs.samples is None or any(one.samples_bytes is not None for one in costs)
    return drawn and set(needs.ways) <= ways


def _job(model: "LocalModel", question: Question, system: str | None, record: EvaluatedAnswer | None) -> Job:
    job = encode_question(model, question, system)
    return job if record is None else job._replace(response_ids=record.answered.response_ids)


def _judged(
    batch: Sequence[Job],
    answers: Sequence[Known | GuardrailError],
    judge: Judge,
    maker: Mapping[str, Any],
    kept: Mapping[str, EvaluatedAnswer],
) -> Iterator[EvaluatedAnswer | Failure]:
    fine: list[tuple[Question, Known]] = []
    for job, answer in zip(batch, answers, strict=True):
        if isinstance(answer, GuardrailError):
            yield _failure(job.question, answer)
        else:
            fine.append((job.question, answer))
    judgements = judge_cases(
        judge,
        [
            Case(one.text, known.answered.response, one.accepted, one.correct)
            for one, known in fine
            if one.digest not in kept
        ],
    )
    judged = iter(judgements)
    for question, known in fine:
        record = kept.get(question.digest)
        yield EvaluatedAnswer(
            digest=question.digest,
            answered=known.answered,
            accepted=question.accepted,
            judgement=next(judged) if record is None else record.judgement,
            finish_reason=known.finish_reason,
            costs=known.costs,
            maker=maker if record is None else _kept_maker(maker, record),
        )


def _kept_maker(maker: Mapping[str, Any], record: EvaluatedAnswer) -> Mapping[str, Any]:
    """The samples that are there were drawn as they were, also where this run needs none."""
    return {**maker, "samples": maker["samples"] or record.maker["samples"]}


def _failure(question: Question, error: GuardrailError) -> Failure:
    return Failure(question.line, " ".join(str(error).split()), error.exit_status)
