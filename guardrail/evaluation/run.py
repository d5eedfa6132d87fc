"""Questions answered, scored with all requested options, and judged, in batches."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from guardrail.errors import GuardrailError
from guardrail.evaluation.cost import peak_memory, runtime_of
from guardrail.evaluation.evaluated_answers import Costs, EvaluatedAnswer
from guardrail.evaluation.methods import AnsweredQuestion
from guardrail.evaluation.requirements import EvaluationOptions, Missing, Needs
from guardrail.evaluation.samples import ask_asides, draw_samples
from guardrail.labelling.answering import (
    answer_traces,
    encode_question,
    hidden_state,
    messages_of,
    response_of,
    sampling_for,
)
from guardrail.labelling.judge import AnswerToJudge, Judge, judge_answers
from guardrail.labelling.provenance import Provenance, ScorerVersion
from guardrail.labelling.questions import Question
from guardrail.scoring.batches import Encoded, Failure, Outcome, run_batches
from guardrail.scoring.score import score_batch
from guardrail.utils.threads import ProgressCallback

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel
    from guardrail.models.trace import Trace

__all__ = ["evaluate_answers"]


@dataclass(slots=True)
class _Findings:
    """What is known about an answer while its batch is processed.

    Attributes:
        job: The question as the model read it.
        answered: The answer, and what methods read.
        finish_reason: Why it ended.
        costs: What it cost.
    """

    job: Encoded[Question]
    answered: AnsweredQuestion
    finish_reason: str | None
    costs: Costs

    def add(self, answered: Mapping[str, Any], costs: Mapping[str, Any]) -> None:
        """Add what was found out, and its cost."""
        self.answered = replace(self.answered, **answered)
        self.costs = replace(self.costs, **costs)


class _Evaluation:
    """A run over questions: what to find out, and what is already known.

    Args:
        model: The model.
        judge: Labels answers, where the question itself does not say what is right.
        needs: What must be known about each answer.
        options: How to answer.
        kept: Records of an earlier run, by digest.
        provenance: How the records were made.
    """

    def __init__(
        self,
        model: "LocalModel",
        judge: Judge,
        needs: Needs,
        options: EvaluationOptions,
        kept: Mapping[str, EvaluatedAnswer],
        provenance: Provenance[ScorerVersion],
    ) -> None:
        self.model = model
        self.judge = judge
        self.needs = needs
        self.options = options
        self.kept = kept
        self.provenance = provenance
        costs = [record.costs for record in kept.values()]
        ways = {way for one in costs for way in one.score_bytes}
        drawn = needs.samples is None or any(one.samples_bytes is not None for one in costs)
        self._memory_is_measured = drawn and set(needs.ways) <= ways

    def encoded(self, question: Question) -> Encoded[Question]:
        """Encode a question; an existing answer is read, not generated again."""
        job = encode_question(self.model, question, self.options.system)
        record = self.kept.get(question.digest)
        return job if record is None else job._replace(response_ids=record.answered.response_ids)

    def found(self, jobs: Sequence[Encoded[Question]]) -> list[_Findings]:
        """Find out what is missing for each answer of a batch."""
        model, needs = self.model, self.needs
        records = [self.kept.get(job.item.digest) for job in jobs]
        missing = _union([needs.missing(record) for record in records])
        traces = answer_traces(model, jobs, self.options.sampling, needs.depth)
        found = [
            self._begun(job, trace, record, len(jobs))
            for job, trace, record in zip(jobs, traces, records, strict=True)
        ]
        if missing.hidden:
            for one, trace in zip(found, traces, strict=True):
                one.add({"hidden": hidden_state(trace, needs.depth)}, {})
        for way in missing.ways:
            began = time.perf_counter()
            scores = score_batch(model, traces, way, release=False)
            seconds = (time.perf_counter() - began) / len(jobs)
            for one, score in zip(found, scores, strict=True):
                one.add(
                    {"scored": {**one.answered.scored, way: score}},
                    {"score_s": {**one.costs.score_s, way: seconds}},
                )
        for trace in traces:
            trace.release()
        if missing.samples and needs.samples is not None:
            began = time.perf_counter()
            prompts = [job.prompt for job in jobs]
            drawn = draw_samples(model, prompts, sampling_for(needs.samples, jobs), needs.count)
            seconds = (time.perf_counter() - began) / len(jobs)
            for one, samples in zip(found, drawn, strict=True):
                one.add({"samples": samples}, {"samples_s": seconds})
        if missing.asides:
            began = time.perf_counter()
            told = ask_asides(model, missing.asides, [one.answered for one in found])
            seconds = (time.perf_counter() - began) / len(jobs)
            for one, asides in zip(found, told, strict=True):
                one.add(
                    {"asides": {**one.answered.asides, **asides}},
                    {"asides_s": one.costs.asides_s + seconds},
                )
        return found

    def judged(self, outcomes: Sequence[Outcome[Question, _Findings]]) -> list[EvaluatedAnswer | Failure]:
        """Judge the answers of a batch that were not judged before."""
        found = [result for _, result in outcomes if not isinstance(result, GuardrailError)]
        self._measure_memory(found)
        cases = [
            AnswerToJudge(
                one.job.item.text, one.answered.response, one.job.item.accepted, one.job.item.correct
            )
            for one in found
            if one.job.item.digest not in self.kept
        ]
        judgements = iter(judge_answers(self.judge, cases))
        results: list[EvaluatedAnswer | Failure] = [
            Failure.of(question.line, result)
            for question, result in outcomes
            if isinstance(result, GuardrailError)
        ]
        for one in found:
            question = one.job.item
            record = self.kept.get(question.digest)
            results.append(
                EvaluatedAnswer(
                    digest=question.digest,
                    answered=one.answered,
                    accepted=question.accepted,
                    judgement=next(judgements) if record is None else record.judgement,
                    finish_reason=one.finish_reason,
                    costs=one.costs,
                    provenance=self._provenance_with_samples(record),
                )
            )
        return results

    def _begun(
        self, job: Encoded[Question], trace: "Trace", record: EvaluatedAnswer | None, batch: int
    ) -> _Findings:
        if record is not None:
            return _Findings(job, record.answered, record.finish_reason, record.costs)
        question, start = job.item, trace.answer_start
        answered = AnsweredQuestion(
            question=question.text,
            messages=messages_of(question.prompt, self.options.system),
            response=response_of(question, trace),
            token_ids=trace.response_ids[start:],
            token_texts=trace.answer_texts,
            log_probabilities=trace.log_probabilities[start:],
            entropies=trace.entropies[start:],
            scored={},
            reasoning_ids=trace.response_ids[:start],
        )
        generate_s = trace.generate_s / batch if job.response_ids is None else None
        costs = Costs(generate_s, machine=_machine(self.model))
        return _Findings(job, answered, trace.ended(question.finish_reason), costs)

    def _measure_memory(self, found: Sequence[_Findings]) -> None:
        """Measure, once a run, the memory of each kind of scoring and of sampling beyond the answer itself.

        Each is repeated for one answer alone.
        """
        if self._memory_is_measured or not found:
            return
        self._memory_is_measured = True
        model, needs, one = self.model, self.needs, found[0]
        (trace,) = model.read_encoded([one.job.prompt], [one.answered.response_ids])
        sizes = {}
        for way in needs.ways:
            with peak_memory(model.model.device) as memory:
                score_batch(model, [trace], way, release=False)
            sizes[way] = memory.peak_bytes
        trace.release()
        drawn = one.costs.samples_bytes
        if needs.samples is not None:
            with peak_memory(model.model.device) as memory:
                draw_samples(model, [one.job.prompt], needs.samples, needs.count)
            drawn = memory.peak_bytes
        one.add({}, {"score_bytes": {**one.costs.score_bytes, **sizes}, "samples_bytes": drawn})

    def _provenance_with_samples(self, record: EvaluatedAnswer | None) -> Provenance[ScorerVersion]:
        """Provenance that keeps how existing samples were drawn, even if this run needs none."""
        if record is None or self.provenance.samples:
            return self.provenance
        return self.provenance.with_samples(record.provenance.samples)


def evaluate_answers(
    model: "LocalModel",
    questions: Sequence[Question],
    judge: Judge,
    needs: Needs,
    options: EvaluationOptions,
    kept: Mapping[str, EvaluatedAnswer],
    provenance: Provenance[ScorerVersion],
    *,
    done: int = 0,
    progress: ProgressCallback | None = None,
) -> Iterator[EvaluatedAnswer | Failure]:
    """Answer, score and judge questions; each is yielded as soon as its batch is done.

    An answer of an earlier run is not generated again: what it lacks is added by teacher forcing. A question
    that cannot be answered or scored is yielded as a failure, and the others go on.

    Args:
        model: The model.
        questions: The questions.
        judge: Labels answers, where the question itself does not say what is right.
        needs: What must be known about each answer.
        options: How to answer.
        kept: Records of an earlier run, by digest.
        provenance: How the records were made.
        done: Number of questions done before, for the progress.
        progress: Called after each batch.
    """
    evaluation = _Evaluation(model, judge, needs, options, kept, provenance)
    return run_batches(
        model,
        questions,
        evaluation.encoded,
        evaluation.found,
        evaluation.judged,
        batch_size=options.batch_size,
        max_tokens=options.sampling.max_tokens,
        stage="answering",
        done=done,
        progress=progress,
    )


def _union(missing: Sequence[Missing]) -> Missing:
    return Missing(
        list(dict.fromkeys(way for one in missing for way in one.ways)),
        any(one.samples for one in missing),
        list(dict.fromkeys(name for one in missing for name in one.asides)),
        any(one.hidden for one in missing),
    )


def _machine(model: "LocalModel") -> str:
    runtime = runtime_of(model)
    threads = f", {runtime.threads} of {runtime.cores} cores" if runtime.device == "cpu" else ""
    return f"{runtime.device} ({runtime.device_name}{threads}), torch {runtime.torch}"
