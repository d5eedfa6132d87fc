"""From a file of questions, or a data set, to a comparison of methods."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from guardrail.calibration.profile import Profile, read_profile
from guardrail.errors import OptionError
from guardrail.evaluation.evaluated_answers import EvaluatedAnswer
from guardrail.evaluation.methods import Method
from guardrail.evaluation.registry import (
    QuestionSource,
    confidence_method,
    generation_notes,
    methods_named,
    open_questions,
    refuse_known_questions,
    refuse_others_answers,
)
from guardrail.evaluation.requirements import (
    REMEDY,
    EvaluationOptions,
    Needs,
    collect_answers,
    default_token,
    needs_of,
    stored_answers,
)
from guardrail.evaluation.sampling_methods import check_available, sampled_methods
from guardrail.labelling.collection import Collected
from guardrail.labelling.judge import Judge
from guardrail.labelling.judges import as_judge
from guardrail.labelling.questions import Questions, parse_questions
from guardrail.models.files.reference import ModelReference
from guardrail.models.files.resolve import is_newer
from guardrail.models.fingerprint import fingerprint_model
from guardrail.utils.files import check_destination
from guardrail.utils.record_store import RecordStore
from guardrail.utils.threads import ProgressCallback

if TYPE_CHECKING:
    from guardrail.evaluation.compare import Comparison
    from guardrail.models.local import LocalModel

__all__ = ["EvaluationPlan", "EvaluationRequest", "FoundAnswers", "plan_evaluation"]


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """Which methods to compare, and on which questions.

    Attributes:
        questions: A file of questions, or the name of a data set.
        model: Name of the model.
        answering: How questions are answered.
        methods: Names of methods and groups of them.
        nli: An NLI model; None for the default one.
        cross_encoder: A model of text similarity; None for the default one.
        profile: A profile whose confidence is one of the methods; None for none.
        reference: The method that differences are to; None for HybridGrad.
        judge: Name of the judge that labels answers right or wrong.
        limit: Maximum number of lines to read; None for all.
        output: Where answers are stored; None for a file in the current folder, named after the questions.
        reports: Where reports will be written.
        seed: Seed of the bootstrap.
        resume: Continue from the answers already stored.
        recheck: Compare the model with that of the stored answers even if the names are the same.
    """

    questions: str
    model: str
    answering: EvaluationOptions
    methods: Sequence[str] = ("one_pass",)
    nli: str | None = None
    cross_encoder: str | None = None
    profile: Path | None = None
    reference: str | None = None
    judge: str = "contains"
    limit: int | None = None
    output: Path | None = None
    reports: Sequence[Path] = ()
    seed: int = 0
    resume: bool = True
    recheck: bool = False


class FoundAnswers(NamedTuple):
    """Answers with everything that the methods read.

    Attributes:
        answers: The answers.
        methods: The methods.
        needs: What the methods needed.
    """

    answers: Collected[EvaluatedAnswer]
    methods: Sequence[Method]
    needs: Needs


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """A request whose files have been read and validated, before a model is opened.

    Attributes:
        request: What is asked for.
        source: Where the questions come from.
        questions: The questions.
        stored: The file that stores the answers.
        judge: Labels answers right or wrong.
        profile: The profile whose confidence is one of the methods; None for none.
        notes: What else a reader of the figures must know.
    """

    request: EvaluationRequest
    source: QuestionSource
    questions: Questions
    stored: Path
    judge: Judge
    profile: Profile | None
    notes: Sequence[str]

    def collect(
        self, open_model: Callable[[], "LocalModel"], progress: ProgressCallback | None = None
    ) -> FoundAnswers:
        """Collect the answers, with everything the methods need to know about them.

        Args:
            open_model: Opens the model; not called if nothing is missing.
            progress: Called at each step.

        Raises:
            OptionError: The stored answers come from another model or from other options.
            RecordError: The file holds something else.
            CalibrationError: There are no answers.
            FileInUseError: Another run is writing the file.
            ForeignProfileError: The profile is of another model.
        """
        request = self.request
        reference = ModelReference.parse(request.model)

        @cache
        def opened() -> "LocalModel":
            model = open_model()
            if self.profile is not None:
                self.profile.check(fingerprint_model(model), self.profile.scorer)
            return model

        with RecordStore(self.stored, REMEDY) as store:
            kept = stored_answers(store, self.questions) if request.resume else {}
            token = default_token(kept, lambda: _known_token(opened()))
            methods = _methods(request, self.profile, token)
            needs = needs_of(methods, request.answering, token)
            answers = collect_answers(
                self.questions,
                self.judge,
                store,
                kept,
                opened,
                needs,
                request.answering,
                model_name=str(reference),
                recheck=request.resume and (request.recheck or is_newer(reference, self.stored)),
                progress=progress,
            )
        return FoundAnswers(answers, methods, needs)

    def compare(self, found: FoundAnswers, progress: ProgressCallback | None = None) -> "Comparison":
        """Compare the methods on the answers.

        Raises:
            ForeignProfileError: The profile is of another model than the answers.
            CalibrationError: The answers are too few, or all right, or all wrong.
        """
        from guardrail.evaluation.compare import compare, estimate_all

        records = found.answers.records
        if self.profile is not None:
            self.profile.check(records[0].provenance.model, self.profile.scorer)
        estimated = estimate_all(found.methods, records, progress)
        request = self.request
        return compare(estimated, records, reference=request.reference, seed=request.seed, progress=progress)


def plan_evaluation(request: EvaluationRequest) -> EvaluationPlan:
    """Read the files that a request names, and validate it.

    Raises:
        OptionError: An option is wrong, or questions are among those that the profile was made of.
        ProfileError: The profile cannot be used.
        RecordError: There are no questions.
    """
    judge = as_judge(request.judge)
    profile = read_profile(request.profile) if request.profile is not None else None
    # Misspelt names are reported before a model is opened.
    _methods(request, profile)
    ModelReference.parse(request.model)
    source = open_questions(request.questions, request.limit)
    stored = request.output or Path(f"{source.stem}.evaluation.jsonl")
    written = [stored, *request.reports]
    if len({path.absolute() for path in written}) < len(written):
        raise OptionError("Results and reports need a file each: two of them are the same.")
    for path in written:
        check_destination(path, source.path)
    questions = parse_questions(source.lines, judge_needs_answers=judge.needs_answers)
    notes = [f"What is right, by the lines: {questions.shapes}."] if questions.shapes else []
    if profile is not None and request.profile is not None:
        refuse_others_answers(profile, questions.usable)
        unsure = refuse_known_questions(profile, request.profile, source, questions.usable)
        notes += [*generation_notes(profile, request.answering.generation), *([unsure] if unsure else [])]
    return EvaluationPlan(request, source, questions, stored, judge, profile, notes)


def _methods(
    request: EvaluationRequest, profile: Profile | None, token: int | None = None
) -> Sequence[Method]:
    sampled = sampled_methods(nli=request.nli, cross_encoder=request.cross_encoder)
    confidence = confidence_method(profile) if profile is not None else None
    methods = methods_named(request.methods, sampled, confidence, token)
    for method in methods:
        if method.name in sampled:
            check_available(method)
    return methods


def _known_token(model: "LocalModel") -> int | None:
    from guardrail.scoring.options import ScoringOptions
    from guardrail.scoring.semantic_tokens import with_known_token

    return with_known_token(ScoringOptions(), model).semantic_token
