"""Questions answered, scored in every way that is asked for, and judged, in batches."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from guardrail.errors import GuardrailError
from guardrail.evaluation.methods import AnsweredQuestion
from guardrail.evaluation.requirements import Costs, EvaluatedAnswer, EvaluationOptions, Missing, Needs
from guardrail.evaluation.samples import ask_asides, draw_samples
from guardrail.labelling.answering import EncodedQuestion, batches, encode_question, messages_of
from guardrail.labelling.judge import AnswerToJudge, Judge, judge_answers
from guardrail.labelling.observation import HiddenState
from guardrail.labelling.questions import Question
from guardrail.models.devices import peak_memory, runtime_of
from guardrail.scoring.bulk import together_or_alone
from guardrail.scoring.records import Failure
from guardrail.scoring.score import score_batch
from guardrail.utils.progress import ProgressCallback, report

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel
    from guardrail.models.sampling import Sampling
    from guardrail.models.trace import Trace
    from guardrail.scoring.options import ScoringOptions

__all__ = ["AnswerFacts", "answer_batch", "evaluate_answers", "measure_memory"]


class AnswerFacts(NamedTuple):
    """What is known of an answer, and what it took."""

    answered: AnsweredQuestion
    finish_reason: str | None
    costs: Costs


def answer_batch(
    model: "LocalModel",
    jobs: Sequence[EncodedQuestion],
    needs: Needs,
    options: EvaluationOptions,
    kept: Mapping[str, EvaluatedAnswer],
) -> list[AnswerFacts]:
    """Find out what is missing of each answer; an answer that is there is read, not given again.

    Args:
        model: The model.
        jobs: The questions, either all with ``response_ids`` or all without.
        needs: What is to be known.
        options: How to answer.
        kept: What is known already, by digest.
    """
    records = [kept.get(job.question.digest) for job in jobs]
    missing = _union([needs.missing(record) for record in records])
    traces = _traces(model, jobs, options, needs.depth)
    known = [
        _new(model, job, trace, options, len(jobs))
        if record is None
        else AnswerFacts(record.answered, record.finish_reason, record.costs)
        for job, trace, record in zip(jobs, traces, records, strict=True)
    ]
    if missing.hidden and needs.depth is not None:
        known = [_with_hidden(one, trace, needs.depth) for one, trace in zip(known, traces, strict=True)]
    for way in missing.ways:
        known = _with_way(model, known, traces, way)
    for trace in traces:
        trace.release()
    if missing.samples and needs.samples is not None:
        known = _with_samples(model, known, jobs, needs.samples, needs.count)
    return _with_asides(model, known, missing.asides) if missing.asides else known


def measure_memory(
    model: "LocalModel", job: EncodedQuestion, known: AnswerFacts, needs: Needs
) -> AnswerFacts:
    """Measure the most memory that each way of scoring, and drawing, takes beyond the answer itself.

    Each is done once more for this answer alone.
    """
    (trace,) = model.read_encoded([job.prompt], [known.answered.response_ids])
    sizes = {}
    for way in needs.ways:
        with peak_memory(model.model.device) as memory:
            score_batch(model, [trace], way, release=False)
        sizes[way] = memory.peak_bytes
    trace.release()
    drawn = None
    if needs.samples is not None:
        with peak_memory(model.model.device) as memory:
            draw_samples(model, [job.prompt], needs.samples, needs.count)
        drawn = memory.peak_bytes
    costs = replace(known.costs, score_bytes={**known.costs.score_bytes, **sizes})
    return known._replace(costs=replace(costs, samples_bytes=drawn or costs.samples_bytes))


def _union(missing: Sequence[Missing]) -> Missing:
    return Missing(
        list(dict.fromkeys(way for one in missing for way in one.ways)),
        any(one.samples for one in missing),
        list(dict.fromkeys(name for one in missing for name in one.asides)),
        any(one.hidden for one in missing),
    )


def _traces(
    model: "LocalModel", jobs: Sequence[EncodedQuestion], options: EvaluationOptions, depth: float | None
) -> list["Trace"]:
    depths = () if depth is None else (depth,)
    prompts = [job.prompt for job in jobs]
    given = [job.response_ids for job in jobs if job.response_ids is not None]
    if given:
        return model.read_encoded(prompts, given, depths=depths)
    return model.generate_encoded(prompts, _for_batch(options.sampling, jobs[0]), depths=depths)


def _for_batch(sampling: "Sampling", first: EncodedQuestion) -> "Sampling":
    return sampling.drawn_apart(int(first.question.digest[:8], 16))


def _new(
    model: "LocalModel", job: EncodedQuestion, trace: "Trace", options: EvaluationOptions, batch: int
) -> AnswerFacts:
    question = job.question
    answered = AnsweredQuestion(
        question=question.text,
        messages=messages_of(question.prompt, options.system),
        response=trace.text if question.response is None or trace.answer_start else question.response,
        token_ids=trace.response_ids[trace.answer_start :],
        token_texts=trace.answer_texts,
        log_probabilities=trace.log_probabilities[trace.answer_start :],
        entropies=trace.entropies[trace.answer_start :],
        scored={},
        reasoning_ids=trace.response_ids[: trace.answer_start],
    )
    generate_s = trace.generate_s / batch if job.response_ids is None else None
    costs = Costs(generate_s, machine=_machine(model))
    return AnswerFacts(answered, trace.ended(question.finish_reason), costs)


def _machine(model: "LocalModel") -> str:
    runtime = runtime_of(model)
    threads = f", {runtime.threads} of {runtime.cores} cores" if runtime.device == "cpu" else ""
    return f"{runtime.device} ({runtime.device_name}{threads}), torch {runtime.torch}"


def _with_hidden(known: AnswerFacts, trace: "Trace", depth: float) -> AnswerFacts:
    (summary,) = trace.hidden.values()
    hidden = HiddenState(depth, summary.mean.float().tolist(), summary.last.float().tolist())
    return known._replace(answered=replace(known.answered, hidden=hidden))


def _with_way(
    model: "LocalModel", known: Sequence[AnswerFacts], traces: Sequence["Trace"], way: "ScoringOptions"
) -> list[AnswerFacts]:
    began = time.perf_counter()
    scores = score_batch(model, traces, way, release=False)
    seconds = (time.perf_counter() - began) / len(traces)
    return [
        one._replace(
            answered=replace(one.answered, scored={**one.answered.scored, way: score}),
            costs=replace(one.costs, score_s={**one.costs.score_s, way: seconds}),
        )
        for one, score in zip(known, scores, strict=True)
    ]


def _with_samples(
    model: "LocalModel",
    known: Sequence[AnswerFacts],
    jobs: Sequence[EncodedQuestion],
    sampling: "Sampling",
    count: int,
) -> list[AnswerFacts]:
    began = time.perf_counter()
    drawn = draw_samples(model, [job.prompt for job in jobs], _for_batch(sampling, jobs[0]), count)
    seconds = (time.perf_counter() - began) / len(jobs)
    return [
        one._replace(
            answered=replace(one.answered, samples=samples), costs=replace(one.costs, samples_s=seconds)
        )
        for one, samples in zip(known, drawn, strict=True)
    ]


def _with_asides(
    model: "LocalModel", known: Sequence[AnswerFacts], names: Sequence[str]
) -> list[AnswerFacts]:
    began = time.perf_counter()
    told = ask_asides(model, names, [one.answered for one in known])
    seconds = (time.perf_counter() - began) / len(known)
    return [
        one._replace(
            answered=replace(one.answered, asides={**one.answered.asides, **asides}),
            costs=replace(one.costs, asides_s=one.costs.asides_s + seconds),
        )
        for one, asides in zip(known, told, strict=True)
    ]


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
        jobs: list[EncodedQuestion] = []
        for question in questions[first : first + size]:
            try:
                jobs.append(_job(model, question, options.system, kept.get(question.digest)))
            except GuardrailError as error:
                finished += 1
                yield _failure(question, error)
        for batch in batches(model, jobs, options.sampling.max_tokens, options.batch_size):
            answers = together_or_alone(lambda some: answer_batch(model, some, needs, options, kept), batch)
            if not measured and isinstance(answers[0], AnswerFacts):
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


def _job(
    model: "LocalModel", question: Question, system: str | None, record: EvaluatedAnswer | None
) -> EncodedQuestion:
    job = encode_question(model, question, system)
    return job if record is None else job._replace(response_ids=record.answered.response_ids)


def _judged(
    batch: Sequence[EncodedQuestion],
    answers: Sequence[AnswerFacts | GuardrailError],
    judge: Judge,
    maker: Mapping[str, Any],
    kept: Mapping[str, EvaluatedAnswer],
) -> Iterator[EvaluatedAnswer | Failure]:
    fine: list[tuple[Question, AnswerFacts]] = []
    for job, answer in zip(batch, answers, strict=True):
        if isinstance(answer, GuardrailError):
            yield _failure(job.question, answer)
        else:
            fine.append((job.question, answer))
    judgements = judge_answers(
        judge,
        [
            AnswerToJudge(one.text, known.answered.response, one.accepted, one.correct)
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
