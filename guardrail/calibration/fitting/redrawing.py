"""Which of the answers in a file were held out, when the profile was made of them long ago."""

from collections.abc import Iterable
from math import isclose

from guardrail.calibration.answers import AnswerRecord
from guardrail.calibration.author import Author
from guardrail.calibration.figure import Figure
from guardrail.calibration.fitting.options import Shares
from guardrail.calibration.fitting.split import split
from guardrail.calibration.held_out import HeldOutAnswer
from guardrail.calibration.metrics import auroc, brier
from guardrail.calibration.profile import Profile
from guardrail.calibration.report.words import figure_of
from guardrail.errors import CalibrationError, ForeignProfileError

__all__ = ["redraw"]

_REMEDY = "Make the profile again of these answers (guardrail calibrate), and then its held-out answers."


def redraw(profile: Profile, records: Iterable[AnswerRecord]) -> tuple[HeldOutAnswer, ...]:
    """Draw the parts again by the profile's seed, and give the one that nothing was fitted or certified on.

    Only the answers that the profile was made of, with the labels that they had then, give the figures of its
    report: anything else is refused, so that no answer that was fitted on passes for one that was not.

    Args:
        profile: The profile; its parts must be of the usual sizes.
        records: The answers that it was made of.

    Raises:
        ForeignProfileError: The answers are of another model, or scored in another way.
        CalibrationError: They are not those that the profile was made of, or it was made without labels.
    """
    if not profile.is_calibrated:
        raise CalibrationError("The profile was made without labels: no part was held out to report on.")
    labelled = sorted((one for one in records if one.correct is not None), key=lambda record: record.digest)
    if labelled:
        maker = labelled[0].maker
        profile.check(maker.model, maker.scorer)
        author = Author(maker.answered_by) if maker.answered_by else None
        if outside := profile.outside_domain(author, maker.model.name):
            raise ForeignProfileError(f"These are not the profile's answers: {outside}.", ["answered_by"])
    correct = [bool(record.correct) for record in labelled]
    making = profile.making
    if (len(labelled), sum(correct)) != (making.answers, making.correct):
        raise CalibrationError(
            f"The profile was made of {making.answers:,} answers, {making.correct:,} of them right, and "
            f"these are {len(labelled):,} with {sum(correct):,} right: which were held out cannot be told. "
            f"{_REMEDY}"
        )
    parts = split([record.question for record in labelled], correct, Shares(), making.seed)
    answers = tuple(_held_out(profile, labelled[at]) for at in parts.report)
    if not _is_reported_on(profile, answers):
        raise CalibrationError(
            "These answers do not give the figures of the profile's report: their labels, or the way in "
            f"which parts are drawn, changed since, and which were held out cannot be told. {_REMEDY}"
        )
    return answers


def _held_out(profile: Profile, record: AnswerRecord) -> HeldOutAnswer:
    assessment = profile.assess(record.observation)
    if assessment.confidence is None or assessment.confidence_score is None:
        raise CalibrationError("The profile gives no confidence.")
    return HeldOutAnswer(
        question=record.question,
        response=record.response,
        correct=bool(record.correct),
        finish_reason=record.finish_reason,
        confidence=assessment.confidence,
        confidence_score=assessment.confidence_score,
        scores=dict(record.observation.scores),
    )


def _is_reported_on(profile: Profile, answers: tuple[HeldOutAnswer, ...]) -> bool:
    correct = [one.correct for one in answers]
    measured = {
        "auroc": float(auroc([one.confidence_score for one in answers], correct)),
        "brier": float(brier([one.confidence for one in answers], correct)),
    }
    reported = {name: figure_of(profile.report, name) for name in measured}
    return len(answers) == profile.making.parts.get("report") and all(
        _is_same(measured[name], figure) for name, figure in reported.items()
    )


def _is_same(value: float, figure: Figure | None) -> bool:
    return figure is not None and figure.value is not None and isclose(value, figure.value, rel_tol=1e-9)
