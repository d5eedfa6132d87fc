"""From a file of questions, or of answers that were kept, to a profile."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from guardrail.calibration.held_out import HeldOut
from guardrail.calibration.options import FitOptions, MakingSource
from guardrail.calibration.profile import write_profile
from guardrail.errors import CalibrationError, OptionError, RecordError
from guardrail.labelling.answers import AnswerRecord, holds_answers
from guardrail.labelling.collection import Collected, collect, reuse
from guardrail.labelling.judge import Judge
from guardrail.labelling.judges import as_judge
from guardrail.labelling.questions import LabelOptions, Questions, of_one_author, parse_questions
from guardrail.models.files.reference import ModelReference
from guardrail.models.files.resolve import is_newer
from guardrail.utils.files import check_destination
from guardrail.utils.json_lines import json_object, read_json_lines
from guardrail.utils.threads import ProgressCallback

if TYPE_CHECKING:
    from guardrail.calibration.fit import Fitted
    from guardrail.models.local import LocalModel

__all__ = [
    "CalibrationPlan",
    "ProfileRequest",
    "Reads",
    "calibrate",
    "make_profile",
    "plan_calibration",
    "prompts_from_log",
]


Reads = Literal["lines", "prompts_from_log"]


@dataclass(frozen=True, slots=True)
class ProfileRequest:
    """A profile to be made, and of what.

    Attributes:
        questions: A file of questions, or of answers that an earlier run kept.
        output: Where the profile is written.
        answers: Where answers are kept; None for beside the profile, or for the file of answers itself.
        report: Where a report will be written; None for nowhere.
        judge: Decides what is right, by its name; None for ``contains``, or for the labels that are stored.
        model: What the model is called.
        answered_by: Who gave the responses of lines that do not say it; None for the model.
        labelling: How questions are answered and scored.
        fit: What the profile is made of.
        limit: Most lines that are taken; None for all.
        resume: Go on with the answers that are kept already.
        recheck: Compare the model with that of stored answers, whatever it is called.
        reads: What the lines are: questions or answers, or a decision log whose prompts are asked again.
        answering_options: Options that somebody gave and that say how questions are answered: they are
            refused where the answers are there already.
    """

    questions: Path
    output: Path
    model: str
    labelling: LabelOptions
    fit: FitOptions
    answers: Path | None = None
    report: Path | None = None
    judge: str | None = None
    answered_by: str | None = None
    limit: int | None = None
    resume: bool = True
    recheck: bool = False
    reads: Reads = "lines"
    answering_options: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class CalibrationPlan:
    """A request whose files were read and found to be right, before a model is opened.

    Attributes:
        request: What is asked for.
        stored: The file that answers are kept in.
        judge: Decides what is right; None for ``contains``, or for the labels that are stored.
        questions: The questions; None where their answers were kept, and no model is needed.
        answered_by: Who gave the answers; None for the model.
        shapes: In which shapes the lines say what is right; empty where none does.
    """

    request: ProfileRequest
    stored: Path
    judge: Judge | None
    questions: Questions | None
    answered_by: str | None = None
    shapes: str = ""

    def collect(
        self, open_model: Callable[[], "LocalModel"], progress: ProgressCallback | None = None
    ) -> Collected[AnswerRecord]:
        """Collect the answers that the profile is to be made of.

        Args:
            open_model: Opens the model; not called where nothing is missing.
            progress: Told of each step.

        Raises:
            OptionError: The answers that are kept were made by another model or with other options.
            RecordError: The file holds something else.
            CalibrationError: There is not one answer.
            FileInUseError: Another run writes the file of answers.
        """
        request = self.request
        if self.questions is None:
            return reuse(request.questions, self.judge, self.stored, progress)
        reference = ModelReference.parse(request.model)
        return collect(
            self.questions,
            self.judge,
            self.stored,
            open_model,
            replace(request.labelling, answered_by=self.answered_by),
            model_name=str(reference),
            recheck=request.resume and (request.recheck or is_newer(reference, self.stored)),
            overwrite=not request.resume,
            progress=progress,
        )


def plan_calibration(request: ProfileRequest) -> CalibrationPlan:
    """Read what a request names, and refuse what cannot be.

    Raises:
        OptionError: An option is wrong, or without effect.
        RecordError: The file holds neither questions nor answers.
    """
    model = str(ModelReference.parse(request.model))
    lines = read_json_lines(request.questions)
    if request.reads == "prompts_from_log":
        lines = prompts_from_log(lines)
    lines = lines[: request.limit]
    has_answers = holds_answers(lines)
    if has_answers and request.answering_options:
        raise OptionError(
            f"{request.questions} holds answers already, made by the model and with the options that stand "
            f"in it: leave out {', '.join(request.answering_options)}."
        )
    stored = request.answers or (request.questions if has_answers else _beside(request.output))
    _check_destinations(request, stored)
    judge = as_judge(request.judge) if request.judge else None
    if has_answers:
        return CalibrationPlan(request, stored, judge, None)
    # Labels are of sentences then, and given in the file of answers.
    is_needed = request.fit.unit == "answer" and (judge is None or judge.needs_answers)
    parsed = parse_questions(lines, judge_needs_answers=is_needed)
    questions, author = of_one_author(parsed, request.answered_by, model)
    return CalibrationPlan(request, stored, judge, questions, author, parsed.shapes)


def prompts_from_log(lines: Iterable[str]) -> list[str]:
    """The prompts of a decision log, as lines of messages: what an app really asks, in the way it asks it.

    Each prompt once, in the order of the log. Records without the text of the question are left out.

    Raises:
        RecordError: No record has the text of its question.
    """
    prompts: dict[str, None] = {}
    for line in lines:
        try:
            asked = json_object(line).get("question")
        except RecordError:
            continue
        if isinstance(asked, list) and asked:
            prompts[json.dumps({"messages": asked})] = None
    if not prompts:
        raise RecordError(
            "The decision log has no text of a question. Its policy must log it (log: {file: …, text: full})."
        )
    return list(prompts)


def make_profile(request: ProfileRequest, answers: Collected[AnswerRecord]) -> "Fitted":
    """Make a profile of answers, and write it.

    Raises:
        CalibrationError: Nothing can be learned of them.
        OptionError: The profile cannot be written.
    """
    fitted = calibrate(answers, request.questions, request.fit)
    write_profile(fitted.profile, request.output)
    return fitted


def calibrate(collected: Collected[AnswerRecord], questions: str | Path, options: FitOptions) -> "Fitted":
    """Make a profile of answers.

    Where nobody was asked what is right, it is a plainer one: it knows what scores are usual, and gives no
    confidence.

    Args:
        collected: The answers.
        questions: The file that they answer.
        options: What the profile is to be made of.

    Raises:
        CalibrationError: Nothing can be learned of them.
    """
    # It loads scikit-learn: not before answers are there to be fitted.
    from guardrail.calibration.fit import Fitted, fit_profile, reference_profile

    questions = Path(questions)
    made = collected.records[0].provenance
    making = MakingSource(
        questions=questions.name,
        questions_sha256=_digest(questions),
        judge=collected.judge,
        generation=made.generation,
    )
    model, scorer, answered_by = made.model, made.scorer, made.answered_by
    # The parts are drawn by the place of an answer: the order in which they came must not change a profile.
    records = sorted(collected.records, key=lambda record: record.digest)
    if options.unit == "sentence":
        return _of_sentences(records, making, options)
    kind = options.by_kind or "kind"
    labelled = [answer for answer in (record.labelled(kind) for record in records) if answer]
    if labelled:
        return fit_profile(
            labelled, model=model, answered_by=answered_by, scorer=scorer, making=making, options=options
        )
    if any(record.judgement.judged_by for record in records):
        reason = next(record.judgement.reason for record in records if record.judgement.judged_by)
        raise CalibrationError(f"The judge could not tell of one answer whether it is right. {reason}")
    answered = [record for record in records if record.scores]
    if not answered:
        raise CalibrationError("No response came to an answer: all of them ended in their reasoning.")
    profile = reference_profile(
        [record.observation for record in answered],
        model=model,
        answered_by=answered_by,
        scorer=scorer,
        making=making,
        facts=[record.facts for record in answered],
    )
    notes = ("No line says what is right: the profile has quantiles, and gives no confidence.",)
    return Fitted(profile, HeldOut((), (), ()), notes)


def _of_sentences(records: Sequence[AnswerRecord], making: MakingSource, options: FitOptions) -> "Fitted":
    """A profile of the sentences of answers: of those that are labelled, or of what scores are usual."""
    from guardrail.calibration.fit import Fitted, fit_profile, reference_profile

    if all(record.sentences is None for record in records):
        raise CalibrationError(
            "The sentences of these answers were not scored: answer the questions again with --sentences."
        )
    made = records[0].provenance
    model, scorer, answered_by = made.model, made.scorer, made.answered_by
    labelled = [one for record in records for one in record.labelled_sentences]
    making = replace(making, judge=f"{len(labelled)} sentences by hand" if labelled else "nobody")
    if labelled:
        return fit_profile(
            labelled, model=model, answered_by=answered_by, scorer=scorer, making=making, options=options
        )
    pairs = [(record, one) for record in records for one in record.sentences or ()]
    profile = reference_profile(
        [one.observation for _, one in pairs],
        model=model,
        answered_by=answered_by,
        scorer=scorer,
        making=making,
        facts=[record.facts_of_sentence(one) for record, one in pairs],
        unit="sentence",
    )
    notes = (
        f"No sentence is labelled: of {len(pairs)} sentences the profile has quantiles, and gives no "
        'confidence. Fill in "correct" of sentences in the file of answers, and run again.',
    )
    return Fitted(profile, HeldOut((), (), ()), notes)


def _digest(path: Path) -> str:
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.") from error


def _beside(profile: Path) -> Path:
    stem = profile.stem if profile.suffix == ".json" else profile.name
    return profile.with_name(f"{stem}.answers.jsonl")


def _check_destinations(request: ProfileRequest, stored: Path) -> None:
    written = [request.output, request.report, None if stored == request.questions else stored]
    paths = [path for path in written if path is not None]
    if len({path.absolute() for path in paths}) < len(paths):
        raise OptionError("Profile, answers and report need a file each: two of them are the same.")
    for path in paths:
        check_destination(path, request.questions)
