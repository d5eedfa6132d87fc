"""From the answers to a file of questions to a profile."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from guardrail.calibration.fit import Fitted, fit_profile, reference_profile
from guardrail.calibration.fit_options import FitOptions, MakingSource
from guardrail.calibration.held_out import HeldOut
from guardrail.calibration.profile import REASONING
from guardrail.errors import CalibrationError, RecordError
from guardrail.labelling.answers import AnswerRecord
from guardrail.labelling.collection import Collected

__all__ = ["calibrate"]


def calibrate(collected: Collected, questions: str | Path, options: FitOptions) -> Fitted:
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
    questions = Path(questions)
    making = MakingSource(
        questions=questions.name,
        questions_sha256=_digest(questions),
        judge=collected.judge,
        generation={**collected.maker.generation, **_reasoning(collected.records)},
    )
    maker = collected.maker
    model, scorer, answered_by = maker.model, maker.scorer, maker.answered_by
    # The parts are drawn by the place of an answer: the order in which they came must not change a profile.
    records = sorted(collected.records, key=lambda record: record.digest)
    labelled = [answer for answer in (record.labelled() for record in records) if answer]
    if labelled:
        return fit_profile(
            labelled, model=model, answered_by=answered_by, scorer=scorer, making=making, options=options
        )
    if any(record.judgement.judged_by for record in records):
        reason = next(record.judgement.reason for record in records if record.judgement.judged_by)
        raise CalibrationError(f"The judge could not tell of one answer whether it is right. {reason}")
    observations = [record.observation for record in records if record.scores]
    if not observations:
        raise CalibrationError("No response came to an answer: all of them ended in their reasoning.")
    profile = reference_profile(
        observations, model=model, answered_by=answered_by, scorer=scorer, making=making
    )
    notes = ("No line says what is right: the profile has quantiles, and gives no confidence.",)
    return Fitted(profile, HeldOut((), (), ()), notes)


def _reasoning(records: Sequence[AnswerRecord]) -> dict[str, float]:
    """What a profile knows of how its answers were thought of: nothing, where none of them was."""
    answered = [record for record in records if record.scores]
    thought = sum("reasoning_tokens" in record.usage for record in answered)
    return {REASONING: thought / len(answered)} if thought else {}


def _digest(path: Path) -> str:
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}.") from error
