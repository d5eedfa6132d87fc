"""One batch of questions: answered, scored in every way that is missing, sampled, and what that took."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from guardrail.calibration.asking import Job, messages_of
from guardrail.calibration.confidence import HiddenState
from guardrail.evaluation.methods.method import Answered
from guardrail.evaluation.needs import EvaluationOptions, Missing, Needs
from guardrail.evaluation.records import Costs, EvaluatedAnswer
from guardrail.evaluation.sampling.asides import ask_asides
from guardrail.evaluation.sampling.drawing import draw_samples
from guardrail.models.memory import peak_memory
from guardrail.models.runtime import runtime_of
from guardrail.scoring.score import score_batch

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel
    from guardrail.models.sampling import Sampling
    from guardrail.models.trace import Trace
    from guardrail.scoring.options import ScoringOptions

__all__ = ["Known", "answer_batch", "measure_memory"]


class Known(NamedTuple):
    """What is known of an answer, and what it took."""

    answered: Answered
    finish_reason: str | None
    costs: Costs


def answer_batch(
    model: "LocalModel",
    jobs: Sequence[Job],
    needs: Needs,
    options: EvaluationOptions,
    kept: Mapping[str, EvaluatedAnswer],
) -> list[Known]:
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
        else Known(record.answered, record.finish_reason, record.costs)
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


def measure_memory(model: "LocalModel", job: Job, known: Known, needs: Needs) -> Known:
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
    model: "LocalModel", jobs: Sequence[Job], options: EvaluationOptions, depth: float | None
) -> list["Trace"]:
    depths = () if depth is None else (depth,)
    prompts = [job.prompt for job in jobs]
    given = [job.response_ids for job in jobs if job.response_ids is not None]
    if given:
        return model.read_encoded(prompts, given, depths=depths)
    return model.generate_encoded(prompts, _for_batch(options.sampling, jobs[0]), depths=depths)


def _for_batch(sampling: "Sampling", first: Job) -> "Sampling":
    return sampling.drawn_apart(int(first.question.digest[:8], 16))


def _new(model: "LocalModel", job: Job, trace: "Trace", options: EvaluationOptions, batch: int) -> Known:
    question = job.question
    answered = Answered(
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
    return Known(answered, trace.ended(question.finish_reason), costs)


def _machine(model: "LocalModel") -> str:
    runtime = runtime_of(model)
    threads = f", {runtime.threads} of {runtime.cores} cores" if runtime.device == "cpu" else ""
    return f"{runtime.device} ({runtime.device_name}{threads}), torch {runtime.torch}"


def _with_hidden(known: Known, trace: "Trace", depth: float) -> Known:
    (summary,) = trace.hidden.values()
    hidden = HiddenState(depth, summary.mean.float().tolist(), summary.last.float().tolist())
    return known._replace(answered=replace(known.answered, hidden=hidden))


def _with_way(
    model: "LocalModel", known: Sequence[Known], traces: Sequence["Trace"], way: "ScoringOptions"
) -> list[Known]:
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
    model: "LocalModel", known: Sequence[Known], jobs: Sequence[Job], sampling: "Sampling", count: int
) -> list[Known]:
    began = time.perf_counter()
    drawn = draw_samples(model, [job.prompt for job in jobs], _for_batch(sampling, jobs[0]), count)
    seconds = (time.perf_counter() - began) / len(jobs)
    return [
        one._replace(
            answered=replace(one.answered, samples=samples), costs=replace(one.costs, samples_s=seconds)
        )
        for one, samples in zip(known, drawn, strict=True)
    ]


def _with_asides(model: "LocalModel", known: Sequence[Known], names: Sequence[str]) -> list[Known]:
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
