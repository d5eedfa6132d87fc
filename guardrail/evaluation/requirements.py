"""What methods of evaluation need to know about an answer, and answers collected until it is known.

Stored answers are reused and completed, and missing ones made.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from guardrail.errors import OptionError
from guardrail.evaluation.evaluated_answers import EvaluatedAnswer, parse_evaluated
from guardrail.evaluation.methods import Method
from guardrail.labelling.answers import LABELLED
from guardrail.labelling.collection import Collected, answers_to, check_answers, no_answers
from guardrail.labelling.judge import AnswerToJudge, Judge, judge_again
from guardrail.labelling.provenance import Provenance, ScorerVersion, generation_arguments
from guardrail.labelling.questions import LabelOptions, Question, Questions
from guardrail.models.fingerprint import ModelFingerprint
from guardrail.models.sampling import Sampling
from guardrail.scoring.batches import Failure
from guardrail.scoring.options import SCORER_VERSION, ScoringOptions
from guardrail.utils.json_lines import as_json
from guardrail.utils.record_store import RecordStore
from guardrail.utils.threads import ProgressCallback

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel

__all__ = [
    "REMEDY",
    "EvaluationOptions",
    "Missing",
    "Needs",
    "collect_answers",
    "default_token",
    "needs_of",
    "stored_answers",
]


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """Options for answering questions.

    Attributes:
        sampling: How the judged answers are generated.
        system: A system message for every conversation that has none.
        batch_size: Number of questions in one batch.
        samples: Number of other answers to sample, where a method needs them.
        chat_template_kwargs: Arguments of the chat template that the model was opened with.

    Raises:
        OptionError: A number is out of range.
    """

    sampling: Sampling
    system: str | None = None
    batch_size: int = 16
    samples: int = 10
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise OptionError(f"batch_size is {self.batch_size}; it is at least 1.")
        if self.samples < 2:
            raise OptionError(f"samples is {self.samples}; methods compare at least 2.")

    @property
    def generation(self) -> dict[str, Any]:
        """What the answers that are judged are generated with, as plain values."""
        return generation_arguments(
            LabelOptions(
                sampling=self.sampling,
                system=self.system,
                chat_template_kwargs=self.chat_template_kwargs,
            )
        )


class Missing(NamedTuple):
    """What is still missing for an answer: scoring options, samples, further questions, a hidden state."""

    ways: Sequence[ScoringOptions]
    samples: bool
    asides: Sequence[str]
    hidden: bool

    @property
    def is_nothing(self) -> bool:
        """Whether nothing is missing."""
        return not (self.ways or self.samples or self.asides or self.hidden)


@dataclass(frozen=True, slots=True)
class Needs:
    """What must be known about each answer.

    Attributes:
        ways: Scoring options.
        samples: How other answers are sampled; None for no sampling.
        count: Number of samples.
        asides: Further questions to the model, by name.
        depth: Depth, as a fraction of the layers, whose hidden state is kept; None for none.
        semantic_token: t* of gradients that name none; None for the rule of the model's chat template.
        generation: Arguments that answers are generated with.
    """

    ways: Sequence[ScoringOptions]
    samples: Sampling | None
    count: int
    asides: Sequence[str]
    depth: float | None
    semantic_token: int | None
    generation: Mapping[str, Any]

    def missing(self, record: EvaluatedAnswer | None) -> Missing:
        """What is still missing for an answer; for None, everything."""
        if record is None:
            return Missing(self.ways, self.samples is not None, self.asides, self.depth is not None)
        answered = record.answered
        return Missing(
            [way for way in self.ways if way not in answered.scored],
            self.samples is not None and not answered.samples,
            [name for name in self.asides if name not in answered.asides],
            self.depth is not None and (answered.hidden is None or answered.hidden.depth != self.depth),
        )

    def are_met(self, record: EvaluatedAnswer | None) -> bool:
        """Whether there is an answer with nothing missing."""
        return record is not None and self.missing(record).is_nothing

    def provenance(self, model: ModelFingerprint) -> Provenance[ScorerVersion]:
        """The provenance of the answers of this run."""
        drawn = None if self.samples is None else {**asdict(self.samples), "count": self.count}
        if drawn is not None:
            drawn["stop"] = list(drawn["stop"])
        scorer = ScorerVersion(SCORER_VERSION, self.semantic_token)
        return Provenance(model, scorer, self.generation, samples=drawn)

    def difference(self, record: EvaluatedAnswer, model: ModelFingerprint | None) -> str:
        """Why a record cannot belong to this run, in words; empty if it can.

        Args:
            record: The record.
            model: The model; None where it is not open, and is not compared.
        """
        made = record.provenance
        now = self.provenance(model or made.model)
        if self.samples is None or not record.answered.samples:
            now = now.with_samples(made.samples)
        return made.difference(now)


def needs_of(methods: Iterable[Method], options: EvaluationOptions, token: int | None = None) -> Needs:
    """What these methods need together.

    Args:
        methods: The methods.
        options: Options for answering questions.
        token: t* of the gradients among them that name none; None for the rule of the model's chat template.

    Raises:
        OptionError: Two of them need samples drawn in different ways, or hidden states at different depths.
    """
    methods = list(methods)
    limit = options.sampling.max_tokens
    drawn = {replace(one.samples, max_tokens=limit): one for one in methods if one.samples is not None}
    depths = {one.depth: one for one in methods if one.depth is not None}
    for what, kinds in (("samples", drawn), ("a hidden state", depths)):
        if len(kinds) > 1:
            one, other, *_ = kinds.values()
            raise OptionError(f"{one.name} and {other.name} need {what} of different kinds: run one by one.")
    return Needs(
        ways=list(dict.fromkeys(way for one in methods for way in one.options)),
        samples=next(iter(drawn), None),
        count=options.samples,
        asides=list(dict.fromkeys(name for one in methods for name in one.asides)),
        depth=next(iter(depths), None),
        semantic_token=token,
        generation=options.generation,
    )


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
        kept: The answers that it already holds: :func:`stored_answers`.
        open_model: Opens the model. Not called if nothing is missing and the model has the same name.
        needs: What must be known about each answer.
        options: How to answer.
        model_name: The name of the model; None to trust that of stored answers.
        recheck: Open the model and compare it even if its name is the same and nothing is missing.
        progress: Called for each batch.

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
    """The beginning of the record of an answer to a question."""
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
