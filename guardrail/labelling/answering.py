"""Questions encoded, answered by the model or read with answers given, then scored and judged, in batches."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from guardrail.errors import GuardrailError
from guardrail.labelling.answers import AnswerMaker, AnswerRecord, Judgement
from guardrail.labelling.judge import AnswerToJudge, Judge, judge_answers
from guardrail.labelling.observation import HiddenState
from guardrail.labelling.questions import LabelOptions, Question, generation_arguments
from guardrail.models.fingerprint import fingerprint_model
from guardrail.models.prompt import EncodedPrompt
from guardrail.scoring.bulk import together_or_alone
from guardrail.scoring.options import fingerprint_scorer
from guardrail.scoring.records import Failure
from guardrail.scoring.score import no_answer, score_batch
from guardrail.utils.progress import ProgressCallback, report
from guardrail.utils.record_store import RecordStore

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel
    from guardrail.models.prompt import Prompt
    from guardrail.models.trace import Trace
    from guardrail.scoring.uncertainty import Uncertainty

__all__ = ["EncodedQuestion", "answer_maker", "batches", "encode_question", "label", "messages_of"]


class EncodedQuestion(NamedTuple):
    """A question that could be encoded; ``response_ids`` where it came with a response."""

    question: Question
    prompt: EncodedPrompt
    response_ids: list[int] | None

    @property
    def length(self) -> int:
        """Tokens that are known before anything is generated."""
        return len(self.prompt.ids) + len(self.response_ids or ())


def encode_question(model: "LocalModel", question: Question, system: str | None) -> EncodedQuestion:
    """Encode a question for a model, behind a system message where there is one.

    Raises:
        PromptError: The question cannot be read by this model.
        ResponseError: Its response cannot.
    """
    encoded = model.encode_prompt(messages_of(question.prompt, system))
    if question.response is None:
        return EncodedQuestion(question, encoded, None)
    ids = model.encode_response(question.response, question.finish_reason)
    return EncodedQuestion(replace(question, response=model.said(question.response)), encoded, ids)


def messages_of(prompt: "Prompt", system: str | None) -> Sequence[Mapping[str, Any]]:
    """A prompt as messages, behind a system message unless it has one."""
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    has_one = any(isinstance(message, dict) and message.get("role") == "system" for message in messages)
    return messages if system is None or has_one else [{"role": "system", "content": system}, *messages]


def batches(
    model: "LocalModel", jobs: Sequence[EncodedQuestion], max_tokens: int, size: int
) -> Iterator[list[EncodedQuestion]]:
    """Jobs in batches: those to be answered, those that came with a response, those with little room.

    Args:
        model: The model.
        jobs: They.
        max_tokens: Most tokens of an answer.
        size: Most jobs of a batch.
    """
    ordered = sorted(jobs, key=lambda job: job.length)
    context = model.anatomy.context_length or sys.maxsize
    asked: list[EncodedQuestion] = []
    crowded: list[EncodedQuestion] = []
    for job in (job for job in ordered if job.response_ids is None):
        # A batch has room for as many tokens as its longest prompt leaves: that one goes alone.
        room = context - len(job.prompt.ids)
        (asked if room >= max_tokens else crowded).append(job)
    given = [job for job in ordered if job.response_ids is not None]
    for group, most in ((asked, size), (given, size), (crowded, 1)):
        for low in range(0, len(group), most):
            yield group[low : low + most]


# Questions of this many batches are put in order of length, so that little is wasted on padding.
_BATCHES_PER_WINDOW = 4


def label(
    model: "LocalModel",
    questions: Sequence[Question],
    judge: Judge,
    options: LabelOptions | None = None,
    *,
    output: RecordStore | None = None,
    done: int = 0,
    progress: ProgressCallback | None = None,
) -> Iterator[AnswerRecord | Failure]:
    """Answer, score and judge questions in batches; each comes out as soon as its batch is done.

    What is scored, judged and kept is the answer; one that was cut off in its reasoning has no scores and no
    label, and does not count.

    A question that cannot be answered or scored comes out as a failure, and the others go on.

    Args:
        model: The model.
        questions: The questions; those that come with a response are scored by teacher forcing.
        judge: Who says what is right, where the question does not.
        options: How to answer and score.
        output: Each record is appended to it before it comes out.
        done: How many were done before, for the progress.
        progress: Told of each batch.
    """
    options = options or LabelOptions()
    maker = answer_maker(model, options)
    total, finished = done + len(questions), done
    size = options.batch_size * _BATCHES_PER_WINDOW
    report(progress, "answering", finished, total)
    for first in range(0, len(questions), size):
        for results in _label_window(model, questions[first : first + size], judge, options, maker):
            for result in results:
                if output is not None and isinstance(result, AnswerRecord):
                    output.append(result.as_plain())
            finished += len(results)
            report(progress, "answering", finished, total)
            yield from results


def answer_maker(model: "LocalModel", options: LabelOptions) -> AnswerMaker:
    """What makes the answers of a run."""
    scorer = fingerprint_scorer(options.scoring)
    generation = generation_arguments(options)
    return AnswerMaker(fingerprint_model(model), scorer, generation, options.answered_by)


def _label_window(
    model: "LocalModel",
    window: Sequence[Question],
    judge: Judge,
    options: LabelOptions,
    maker: AnswerMaker,
) -> Iterator[list[AnswerRecord | Failure]]:
    jobs: list[EncodedQuestion] = []
    refused: list[AnswerRecord | Failure] = []
    for question in window:
        try:
            jobs.append(encode_question(model, question, options.system))
        except GuardrailError as error:
            refused.append(_failure(question, error))
    if refused:
        yield refused
    for batch in batches(model, jobs, options.sampling.max_tokens, options.batch_size):
        answered = together_or_alone(lambda some: _answer(model, some, options), batch)
        yield _judged(batch, answered, judge, options, maker)


def _answer(
    model: "LocalModel", jobs: Sequence[EncodedQuestion], options: LabelOptions
) -> list[tuple["Trace", "Uncertainty | None"]]:
    depths = () if options.depth is None else (options.depth,)
    prompts = [job.prompt for job in jobs]
    given = [job.response_ids for job in jobs if job.response_ids is not None]
    if given:
        traces = model.read_encoded(prompts, given, depths=depths)
    else:
        sampling = options.sampling.drawn_apart(int(jobs[0].question.digest[:8], 16))
        traces = model.generate_encoded(prompts, sampling, depths=depths)
    answered = [trace for trace in traces if trace.has_answer]
    scored = iter(score_batch(model, answered, options.scoring))
    return [(trace, next(scored) if trace.has_answer else None) for trace in traces]


def _judged(
    batch: Sequence[EncodedQuestion],
    answered: Sequence["tuple[Trace, Uncertainty | None] | GuardrailError"],
    judge: Judge,
    options: LabelOptions,
    maker: AnswerMaker,
) -> list[AnswerRecord | Failure]:
    results: list[AnswerRecord | Failure] = []
    fine: list[tuple[Question, Trace, Uncertainty | None]] = []
    for job, answer in zip(batch, answered, strict=True):
        if isinstance(answer, GuardrailError):
            results.append(_failure(job.question, answer))
        else:
            fine.append((job.question, *answer))
    cases = [
        AnswerToJudge(question.text, _response(question, trace), question.accepted, question.correct)
        for question, trace, _ in fine
        if trace.has_answer
    ]
    judgements = iter(judge_answers(judge, cases))
    for question, trace, uncertainty in fine:
        judgement = next(judgements) if trace.has_answer else Judgement(None, None, no_answer(trace))
        results.append(_record(question, trace, uncertainty, judgement, options, maker))
        # One without an answer was not scored, and is let go of here.
        trace.release()
    return results


def _record(
    question: Question,
    trace: "Trace",
    uncertainty: "Uncertainty | None",
    judgement: Judgement,
    options: LabelOptions,
    maker: AnswerMaker,
) -> AnswerRecord:
    return AnswerRecord(
        fields=question.fields,
        response=_response(question, trace),
        correct=judgement.correct,
        judgement=judgement,
        finish_reason=trace.ended(question.finish_reason),
        scores=uncertainty.scores() if uncertainty else {},
        usage=trace.token_counts,
        hidden=_hidden(trace, options.depth) if uncertainty else None,
        maker=maker,
        digest=question.digest,
    )


def _hidden(trace: "Trace", depth: float | None) -> HiddenState | None:
    if depth is None:
        return None
    (summary,) = trace.hidden.values()
    return HiddenState(depth, summary.mean.float().tolist(), summary.last.float().tolist())


def _response(question: Question, trace: "Trace") -> str:
    as_given = question.response is not None and not trace.answer_start
    return question.response if as_given and question.response is not None else trace.text


def _failure(question: Question, error: GuardrailError) -> Failure:
    return Failure(question.line, " ".join(str(error).split()), error.exit_status)
