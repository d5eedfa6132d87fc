"""Generate answers, or read those given elsewhere, and score each and its sentences."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from guardrail.errors import InvalidInputError, ScoringError
from guardrail.escalation.case import is_blank
from guardrail.guard.answer import failure
from guardrail.guard.external_generation import Attribution, ExternalGeneration, attribute
from guardrail.guard.grounding import with_document_gains
from guardrail.guard.sentence_scores import ScoredSentence, score_sentences
from guardrail.guard.tool_calls import CalledTool, ScoredCall, name_of, scored_calls
from guardrail.labelling.provenance import Author
from guardrail.models.decoding import NO_CONTROLS, GenerationControls, decode
from guardrail.models.prompt import EncodedPrompt
from guardrail.scoring.score import score_batch
from guardrail.scoring.uncertainty import SCORES, HiddenState, Observation, Uncertainty
from guardrail.utils.text import text_before

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel
    from guardrail.models.sampling import Sampling
    from guardrail.models.trace import FinishReason, Trace, Usage
    from guardrail.scoring.options import ScoringOptions

__all__ = [
    "Job",
    "Produced",
    "Wanted",
    "produce",
    "read_jobs",
]


# Scores that are computed where they are asked for only.
_OPTIONAL = ("exgrad",)


@dataclass(frozen=True, slots=True)
class Job:
    """One request.

    Attributes:
        id: What tells it from all others.
        messages: What is asked.
        response: An answer that was produced elsewhere, as text or token ids; None to have one generated.
        answered_by: Who gave that one; None for the guard's own model.
        temperature: At which that one was drawn, if it is known.
        finish_reason: Why that one ended, if it is known.
        tags: What the caller says of the request.
        tool_calls: The tools that the answer calls, by name or with where they stand in it.
        controls: Generation controls other than sampling: tools, streaming, cancellation, constraints.
        calls_in: Finds the tools that a generated answer calls, in its text with special tokens.
            Where it fails, the answer is withheld.
        turns_left_out: How many turns of the conversation are no part of ``messages``.
        generation: What the inference server reports that generated ``response``; None where none did.
    """

    id: str
    messages: Sequence[Mapping[str, Any]] = field(repr=False)
    response: str | Sequence[int] | None = field(default=None, repr=False)
    answered_by: Author | None = None
    temperature: float | None = None
    finish_reason: "FinishReason | None" = None
    tags: frozenset[str] = frozenset()
    tool_calls: tuple[str | CalledTool, ...] = ()
    controls: GenerationControls = NO_CONTROLS
    calls_in: Callable[[str], Iterable[str | CalledTool]] | None = field(default=None, repr=False)
    turns_left_out: int = 0
    generation: ExternalGeneration | None = None


class Wanted(NamedTuple):
    """What is to be known of an answer.

    Attributes:
        options: How to score it.
        depths: Where hidden states are kept.
        sentences: Whether each of its sentences is scored too.
        document_gain: Whether it is read once more without the documents that its prompt declares.
    """

    options: "ScoringOptions"
    depths: Sequence[float] = ()
    sentences: bool = False
    document_gain: bool = False


@dataclass(frozen=True, slots=True)
class Produced:
    """What the model's part came to.

    Attributes:
        draft: The answer; None where there is none.
        finish_reason: Why it ended.
        usage: Tokens read and written.
        uncertainty: Its scores; None where they could not be had.
        observation: The same, and hidden states, as a profile takes them.
        error: Why there is no draft or no score, or empty.
        timings: Seconds by stage.
        tool_calls: Names of the tools that a generated answer calls.
        scored_calls: The scores of each call, of a generated answer or one of elsewhere.
        sentences: Its sentences with their scores, where these are wanted and there are several.
        reasoning: What was thought before the answer.
        reasoning_tokens: How many tokens that took.
        attribution: Whose the answer of an inference server is; None where none generated it.
    """

    draft: str | None = field(default=None, repr=False)
    finish_reason: "FinishReason | None" = None
    usage: "Usage | None" = None
    uncertainty: Uncertainty | None = field(default=None, repr=False)
    observation: Observation | None = field(default=None, repr=False)
    error: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)
    tool_calls: tuple[str, ...] = ()
    scored_calls: tuple[ScoredCall, ...] = ()
    sentences: tuple[ScoredSentence, ...] = ()
    reasoning: str = field(default="", repr=False)
    reasoning_tokens: int = 0
    attribution: Attribution | None = None


def produce(
    model: "LocalModel",
    jobs: Sequence[Job],
    sampling: "Sampling | None",
    wanted: Wanted,
    goes_on: Callable[[], bool] | None = None,
) -> list[Produced]:
    """Answer or read, and score, a batch of requests that are all of one kind.

    Where a batch fails its members are tried one by one, so that only the guilty ones go without.

    Args:
        model: The model.
        jobs: The requests; all have the same tools.
        sampling: How to decode.
        wanted: What is to be known of each answer.
        goes_on: Asked after every token whether anybody still waits.

    Raises:
        InvalidInputError: A request cannot be used as it is: that is for the caller to mend.
        CancelledError: Nobody waits any more.
    """
    # Held over both runs: otherwise every waiting request would hold a cache of its own.
    with model.alone():
        try:
            traces = _traces(model, jobs, sampling, wanted.depths, goes_on)
        except InvalidInputError:
            raise
        except Exception as error:  # noqa: BLE001  (recorded; the answer is withheld)
            if len(jobs) > 1:
                return [produce(model, [job], sampling, wanted, goes_on)[0] for job in jobs]
            return [_without_answer(jobs[0], failure("answer", error))]
        try:
            produced = _all_scored(model, jobs, traces, wanted)
        except Exception as error:  # noqa: BLE001  (recorded; the answers are withheld)
            return [_without_answer(job, failure("score", error)) for job in jobs]
        finally:
            for trace in traces:
                if trace is not None:
                    trace.release()
        return with_document_gains(model, jobs, traces, produced) if wanted.document_gain else produced


def _traces(
    model: "LocalModel",
    jobs: Sequence[Job],
    sampling: "Sampling | None",
    depths: Sequence[float],
    goes_on: Callable[[], bool] | None,
) -> "list[Trace | None]":
    """A trace for each request; None for an answer from elsewhere that is empty."""
    if jobs and all(job.response is None for job in jobs):
        controls = replace(jobs[0].controls, goes_on=goes_on)
        asked = [job.messages for job in jobs]
        return [*model.generate_batch(asked, sampling, depths=depths, controls=controls)]
    return read_jobs(model, jobs, depths)


def read_jobs(model: "LocalModel", jobs: Sequence[Job], depths: Sequence[float] = ()) -> "list[Trace | None]":
    """Read the answers that some requests come with; None for one that is empty."""
    prompts = [
        model.encode_prompt(job.messages, job.controls.tools, job.controls.chat_template_kwargs)
        for job in jobs
    ]
    traces: list[Trace | None] = [None] * len(jobs)
    readable = [at for at, job in enumerate(jobs) if not _is_empty(model, job)]
    read = _read(model, [jobs[at] for at in readable], [prompts[at] for at in readable], depths)
    for at, trace in zip(readable, read, strict=True):
        traces[at] = trace
    return traces


def _read(
    model: "LocalModel", jobs: Sequence[Job], prompts: Sequence[EncodedPrompt], depths: Sequence[float]
) -> "list[Trace]":
    ids = [model.encode_response(job.response or (), job.finish_reason) for job in jobs]
    traces = model.read_encoded(prompts, ids, depths=depths)
    for job, trace in zip(jobs, traces, strict=True):
        trace.finish_reason = trace.ended(job.finish_reason)
    return traces


def _is_empty(model: "LocalModel", job: Job) -> bool:
    says_nothing = isinstance(job.response, str) and is_blank(model.said(job.response))
    return not job.response or (says_nothing and not job.tool_calls)


def _all_scored(
    model: "LocalModel",
    jobs: Sequence[Job],
    traces: "Sequence[Trace | None]",
    wanted: Wanted,
) -> list[Produced]:
    drafts = [
        model.said(job.response)
        if isinstance(job.response, str) and (trace is None or not trace.answer_start)
        else _draft(job, trace)
        for job, trace in zip(jobs, traces, strict=True)
    ]
    scorable = [
        trace
        for trace, draft, job in zip(traces, drafts, jobs, strict=True)
        if trace is not None and (job.tool_calls or not is_blank(draft or ""))
    ]
    scored = dict(zip(map(id, scorable), _scored(model, scorable, wanted.options), strict=True))
    produced = []
    for job, trace, draft in zip(jobs, traces, drafts, strict=True):
        if trace is None or id(trace) not in scored:
            produced.append(_without_answer(job, _why_empty(trace), trace))
            continue
        outcome = scored[id(trace)]
        one = _one_produced(draft, trace, outcome, wanted.depths)
        if job.generation is not None:
            one = replace(one, attribution=attribute(job.generation, trace, str(model.model.dtype)))
        one = _with_calls(model, job, trace, one, wanted.options)
        produced.append(_with_sentences(model, trace, one, wanted.options) if wanted.sentences else one)
    return produced


def _scored(
    model: "LocalModel", traces: "Sequence[Trace]", options: "ScoringOptions"
) -> list[Uncertainty | str]:
    """The scores of each, or why there are none."""
    try:
        return [*score_batch(model, traces, options, release=False)]
    except Exception as error:  # noqa: BLE001  (recorded; the answer is withheld)
        if len(traces) > 1:
            return [_scored(model, [trace], options)[0] for trace in traces]
        return [failure("score", error)]


def _one_produced(
    draft: str | None, trace: "Trace", outcome: Uncertainty | str, depths: Sequence[float]
) -> Produced:
    unscored = Produced(
        draft=draft,
        finish_reason=trace.finish_reason,
        usage=trace.usage,
        timings={"answer_s": trace.generate_s},
        reasoning=trace.reasoning,
        reasoning_tokens=trace.answer_start,
    )
    if isinstance(outcome, str):
        return replace(unscored, error=outcome)
    try:
        observation = _observation(trace, outcome, depths)
        timings = {**unscored.timings, "score_s": outcome.score_s}
    except Exception as error:  # noqa: BLE001  (recorded; the answer is withheld)
        return replace(unscored, error=failure("score", error))
    return replace(unscored, uncertainty=outcome, observation=observation, timings=timings)


def _with_calls(
    model: "LocalModel", job: Job, trace: "Trace", produced: Produced, options: "ScoringOptions"
) -> Produced:
    calls = job.tool_calls
    try:
        if job.calls_in is not None:
            found = tuple(job.calls_in(decode(model.tokenizer, trace.answer_ids)))
            calls, produced = (*calls, *found), replace(produced, tool_calls=tuple(map(name_of, found)))
        if calls and produced.uncertainty is not None:
            scored = scored_calls(model, trace, calls, produced.uncertainty, options)
            produced = replace(produced, scored_calls=scored)
    except Exception as error:  # noqa: BLE001  (recorded; the answer is withheld)
        return replace(produced, observation=None, error=produced.error or failure("call", error))
    return produced


def _with_sentences(
    model: "LocalModel", trace: "Trace", produced: Produced, options: "ScoringOptions"
) -> Produced:
    if produced.uncertainty is None:
        return produced
    try:
        scored = score_sentences(model, trace, options)
    except Exception as error:  # noqa: BLE001  (recorded; the answer is withheld)
        return replace(produced, observation=None, error=produced.error or failure("score", error))
    timings = {**produced.timings, "sentences_s": scored.seconds}
    return replace(produced, sentences=scored.sentences, timings=timings)


def _observation(trace: "Trace", uncertainty: Uncertainty, depths: Sequence[float]) -> Observation:
    scores = {**uncertainty.scores(), "tokens": float(len(trace.answer_ids))}
    for name in SCORES:
        if name not in scores and name not in _OPTIONAL:
            raise ScoringError(f"{name} is missing")
    for name, value in scores.items():
        if not isinstance(value, float) or not isfinite(value):
            raise ScoringError(f"{name} is {value}")
    return Observation(scores, _hidden(trace, depths[0]) if depths else None)


def _hidden(trace: "Trace", depth: float) -> HiddenState:
    (summary,) = trace.hidden.values()
    return HiddenState(depth, summary.mean.float().tolist(), summary.last.float().tolist())


def _draft(job: Job, trace: "Trace | None") -> str | None:
    """The answer in the words that were given; reading them again may differ in white space."""
    if isinstance(job.response, str) and (trace is None or not trace.answer_start):
        return job.response
    if trace is None:
        return None
    # Which string ended it, the trace of an answer that was only read does not know.
    return text_before(trace.text, job.generation.sampling.stop) if job.generation is not None else trace.text


def _without_answer(job: Job, error: str, trace: "Trace | None" = None) -> Produced:
    if trace is None:
        return Produced(draft=_draft(job, None), finish_reason=job.finish_reason, error=error)
    return Produced(
        draft=_draft(job, trace),
        finish_reason=trace.finish_reason,
        usage=trace.usage,
        error=error,
        timings={"answer_s": trace.generate_s},
        reasoning=trace.reasoning,
        reasoning_tokens=trace.answer_start,
    )


def _why_empty(trace: "Trace | None") -> str:
    if trace is not None and not trace.has_answer:
        return "EmptyAnswer: the response ended in its reasoning, so there is no answer"
    return "EmptyAnswer: the answer is empty"
