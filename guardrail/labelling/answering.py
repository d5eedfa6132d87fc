"""Questions answered by the model, or read with the answer given, then scored and judged, in batches."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from guardrail.errors import GuardrailError, PromptError
from guardrail.labelling.answers import AnswerRecord, Judgement
from guardrail.labelling.judge import AnswerToJudge, Judge, judge_answers
from guardrail.labelling.provenance import Provenance, provenance_of
from guardrail.labelling.questions import LabelOptions, Question
from guardrail.labelling.sentence_records import SentenceRecord, sentence_records
from guardrail.scoring.batches import Encoded, Failure, Outcome, run_batches
from guardrail.scoring.candidate_positions import POSITIONS, CandidatePositions, PromptEnd
from guardrail.scoring.document_gain import document_gains
from guardrail.scoring.options import ScorerFingerprint
from guardrail.scoring.score import no_answer, score_batch
from guardrail.scoring.uncertainty import HiddenState
from guardrail.utils.record_store import RecordStore
from guardrail.utils.threads import ProgressCallback

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel
    from guardrail.models.prompt import EncodedPrompt, Prompt
    from guardrail.models.sampling import Sampling
    from guardrail.models.trace import Trace
    from guardrail.scoring.uncertainty import Uncertainty

__all__ = [
    "answer_traces",
    "encode_question",
    "hidden_state",
    "label",
    "messages_of",
    "response_of",
    "sampling_for",
]


class _ScoredAnswer(NamedTuple):
    """An answer, and its uncertainty unless it never came to one."""

    question: Question
    trace: "Trace"
    uncertainty: "Uncertainty | None"
    sentences: tuple[SentenceRecord, ...] | None = None


def label(
    model: "LocalModel",
    questions: Sequence[Question],
    judge: Judge,
    options: LabelOptions | None = None,
    *,
    provenance: Provenance[ScorerFingerprint] | None = None,
    output: RecordStore | None = None,
    done: int = 0,
    end: PromptEnd | None = None,
    progress: ProgressCallback | None = None,
) -> Iterator[AnswerRecord | Failure]:
    """Answer, score and judge questions in batches; each comes out as soon as its batch is done.

    What is scored, judged and kept is the answer; one that was cut off in its reasoning has no scores and no
    label, and does not count.

    A question that cannot be answered or scored comes out as a failure, and the others go on.

    Args:
        model: The model.
        questions: The questions; those that come with a response are scored by teacher forcing.
        judge: Decides what is right, where the question does not say.
        options: How to answer and score.
        provenance: What the records say of how they were made, where that is known already.
        output: Each record is appended to it before it comes out.
        done: How many were done before, for the progress.
        end: Where t* may be in the model's prompts, to keep with each answer what it can be chosen by; None
            to keep nothing.
        progress: Told after each batch.
    """
    options = options or LabelOptions()
    provenance = provenance or provenance_of(options, model)

    def judged(outcomes: Sequence[Outcome[Question, _ScoredAnswer]]) -> list[AnswerRecord | Failure]:
        records = _judged(outcomes, judge, options, provenance, end)
        for record in records:
            if output is not None and isinstance(record, AnswerRecord):
                output.append(record.as_plain())
        return records

    return run_batches(
        model,
        questions,
        lambda question: encode_question(model, question, options.system),
        lambda jobs: _answer(model, jobs, options, POSITIONS if end else 0),
        judged,
        batch_size=options.batch_size,
        max_tokens=options.sampling.max_tokens,
        stage="answering",
        done=done,
        progress=progress,
    )


def encode_question(model: "LocalModel", question: Question, system: str | None) -> Encoded[Question]:
    """Encode a question for a model, behind a system message where there is one.

    Raises:
        PromptError: The question cannot be read by this model.
        ResponseError: Its response cannot.
    """
    prompt = model.encode_prompt(messages_of(question.prompt, system))
    if question.response is None:
        return Encoded(question, prompt, None)
    ids = model.encode_response(question.response, question.finish_reason)
    return Encoded(replace(question, response=model.said(question.response)), prompt, ids)


def messages_of(prompt: "Prompt", system: str | None) -> Sequence[Mapping[str, Any]]:
    """A prompt as messages, behind a system message unless it has one."""
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    has_one = any(isinstance(message, dict) and message.get("role") == "system" for message in messages)
    return messages if system is None or has_one else [{"role": "system", "content": system}, *messages]


def answer_traces(
    model: "LocalModel", jobs: Sequence[Encoded[Question]], sampling: "Sampling", depth: float | None
) -> list["Trace"]:
    """Answer the questions of a batch, or read the answers that they come with.

    Args:
        model: The model.
        jobs: The questions, either all with a response or all without.
        sampling: How answers are generated. Each batch draws by random numbers of its own.
        depth: Fraction of the layers at which hidden states are kept; None for none.
    """
    depths = () if depth is None else (depth,)
    prompts = [job.prompt for job in jobs]
    given = [job.response_ids for job in jobs if job.response_ids is not None]
    if given:
        return model.read_encoded(prompts, given, depths=depths)
    return model.generate_encoded(prompts, sampling_for(sampling, jobs), depths=depths)


def sampling_for(sampling: "Sampling", jobs: Sequence[Encoded[Question]]) -> "Sampling":
    """How a batch is drawn: with a seed of its own, without which all batches would draw alike."""
    return sampling.drawn_apart(int(jobs[0].item.digest[:8], 16))


def hidden_state(trace: "Trace", depth: float | None) -> HiddenState | None:
    """The hidden state that a trace kept at one depth, as plain numbers."""
    if depth is None:
        return None
    (summary,) = trace.hidden.values()
    return HiddenState(depth, summary.mean.float().tolist(), summary.last.float().tolist())


def response_of(question: Question, trace: "Trace") -> str:
    """What was answered: the response as the question gives it, or what the model wrote."""
    return trace.text if question.response is None or trace.answer_start else question.response


def _answer(
    model: "LocalModel", jobs: Sequence[Encoded[Question]], options: LabelOptions, positions: int
) -> list[_ScoredAnswer]:
    without = [_without_document(model, job.item, options.system) for job in jobs if options.document_gain]
    traces = answer_traces(model, jobs, options.sampling, options.depth)
    answered = [trace for trace in traces if trace.has_answer]
    # For its sentences the states of an answer are needed until its record is made.
    release = not options.sentences
    uncertainties = score_batch(model, answered, options.scoring, release=release, positions=positions)
    if without:
        prompts = [prompt for prompt, trace in zip(without, traces, strict=True) if trace.has_answer]
        gains = document_gains(model, answered, prompts)
        uncertainties = [
            replace(one, document_gain=gain) for one, gain in zip(uncertainties, gains, strict=True)
        ]
    scores = iter(uncertainties)
    return [
        _ScoredAnswer(
            job.item,
            trace,
            next(scores) if trace.has_answer else None,
            _sentences(model, trace, options) if trace.has_answer else None,
        )
        for job, trace in zip(jobs, traces, strict=True)
    ]


def _without_document(model: "LocalModel", question: Question, system: str | None) -> "EncodedPrompt":
    """The prompt of a question without its document, encoded."""
    if question.without_document is None:
        raise PromptError("The question has no document whose effect on the answer could be scored.")
    return model.encode_prompt(messages_of(question.without_document, system))


def _sentences(
    model: "LocalModel", trace: "Trace", options: LabelOptions
) -> tuple[SentenceRecord, ...] | None:
    return sentence_records(model, trace, options.scoring) if options.sentences else None


def _judged(
    outcomes: Sequence[Outcome[Question, _ScoredAnswer]],
    judge: Judge,
    options: LabelOptions,
    provenance: Provenance[ScorerFingerprint],
    end: PromptEnd | None,
) -> list[AnswerRecord | Failure]:
    answers = [result for _, result in outcomes if not isinstance(result, GuardrailError)]
    cases = [
        AnswerToJudge(question.text, response_of(question, trace), question.accepted, question.correct)
        for question, trace, uncertainty, _ in answers
        if uncertainty
    ]
    judgements = iter(judge_answers(judge, cases))
    records: list[AnswerRecord | Failure] = [
        Failure.of(question.line, result)
        for question, result in outcomes
        if isinstance(result, GuardrailError)
    ]
    for question, trace, uncertainty, sentences in answers:
        judgement = next(judgements) if uncertainty else Judgement(None, None, no_answer(trace))
        records.append(
            AnswerRecord(
                fields=question.fields,
                response=response_of(question, trace),
                correct=judgement.correct,
                judgement=judgement,
                finish_reason=trace.ended(question.finish_reason),
                scores=uncertainty.scores() if uncertainty else {},
                usage=trace.token_counts,
                hidden=hidden_state(trace, options.depth) if uncertainty else None,
                provenance=provenance,
                digest=question.digest,
                positions=_candidates(uncertainty, end) if uncertainty and end else None,
                sentences=sentences,
            )
        )
        # One without an answer was not scored, and still holds what scoring would have let go of.
        trace.release()
    return records


def _candidates(uncertainty: "Uncertainty", end: PromptEnd) -> CandidatePositions:
    position = uncertainty.semantic_token.position
    return CandidatePositions(uncertainty.semgrad_at, end.among, position, end.preservation)
