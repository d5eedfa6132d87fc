"""How a profile was made: what stands in its file of where its answers came from and what was chosen by them.

Plain data. Reading it loads neither torch nor NumPy.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from guardrail.calibration.guarantees import MOST_ANSWERS
from guardrail.utils.record_store import FrozenModel

__all__ = ["CrossFittedChoice", "Making", "PositionFigures", "PreservationMargin", "SemanticTokenChoice"]


Position = Annotated[int, Field(lt=0)]
Auroc = Annotated[float, Field(ge=0, le=1)]
StandardError = Annotated[float, Field(ge=0)]


class PositionFigures(FrozenModel):
    """A position of the prompt's end, as t*.

    Attributes:
        position: The position, −1 for the prompt's last token.
        token: Text of the token there; None where it differs between prompts or is not known.
        auroc: AUROC of HybridGrad taken there, on the fitting part.
        above_expected: How much that is above the AUROC at the expected position.
        standard_error: Standard error of that difference, answers of one group being dependent.
        preservation: Semantic Preservation Score there, mean over the upper half of the layers; None where
            the model was not asked the paraphrases.
    """

    position: Position
    token: str | None = None
    auroc: Auroc
    above_expected: float
    standard_error: StandardError
    preservation: float | None = None


class CrossFittedChoice(FrozenModel):
    """What the choice is worth: made on five folds of the fitting part, measured on the sixth, in turn.

    Attributes:
        auroc: Mean AUROC over the folds at the position that the other folds chose.
        above_expected: How much that is above the mean AUROC at the expected position.
        standard_error: Standard error of that difference.
        positions: The position chosen for each fold.
    """

    auroc: Auroc
    above_expected: float
    standard_error: StandardError
    positions: tuple[Position, ...]


class PreservationMargin(FrozenModel):
    """What paraphrases say of t*, without labels.

    Attributes:
        position: The position with the highest Semantic Preservation Score.
        runner_up: The next one.
        margin: By how much the first is ahead.
        low: Lower end of the margin's 95 % interval.
        high: Upper end of it.
        queries: How many queries were compared.
        prompts: Their wordings.
    """

    position: Position
    runner_up: Position
    margin: float
    low: float
    high: float
    queries: Annotated[int, Field(ge=2)]
    prompts: Annotated[int, Field(ge=4)]


class SemanticTokenChoice(FrozenModel):
    """How t* was chosen.

    Attributes:
        position: The chosen position.
        expected: t* by what was known before: a scan of the model, or the rule for its chat template.
        answers: How many answers of the fitting part it was chosen by.
        groups: How many groups they are of.
        candidates: Figures of every position that could be chosen.
        cross_fitted: What the choice is worth; None where a fold has only right or only wrong answers.
        preservation: What paraphrases say; None where the model was not asked.
    """

    position: Position
    expected: Position
    answers: Annotated[int, Field(ge=1)]
    groups: Annotated[int, Field(ge=1)]
    candidates: tuple[PositionFigures, ...]
    cross_fitted: CrossFittedChoice | None = None
    preservation: PreservationMargin | None = None


class Making(FrozenModel):
    """How a profile was made.

    Attributes:
        library: Version of guardrail.
        created: Time in ISO 8601, UTC.
        questions: Name of the file of questions.
        questions_sha256: Hash of that file.
        judge: The judge that labelled the answers, or ``labelled`` if the file did.
        correct: Number of answers judged correct.
        answers: Number of answers judged.
        parts: Number of answers for fitting, certifying and reporting; disjoint.
        seed: Seed of the split into parts.
        generation: Arguments that the answers were generated with.
        candidates: Figures on the fitting part by which inputs and calibrator were chosen.
        adapted_from: SHA-256 of the profile that was adapted to these answers, with its confidence; None
            where it was learned from them.
        semantic_token: How t* was chosen on the fitting part; None where it was given or not chosen.
    """

    library: str
    created: str
    questions: str
    questions_sha256: str
    judge: str
    correct: Annotated[int, Field(ge=0)]
    answers: Annotated[int, Field(ge=0)]
    parts: Mapping[Literal["fit", "certify", "report"], Annotated[int, Field(ge=0, le=MOST_ANSWERS)]]
    seed: int
    generation: Mapping[str, JsonValue] = Field(default_factory=dict)
    candidates: tuple[Mapping[str, JsonValue], ...] = ()
    adapted_from: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    semantic_token: SemanticTokenChoice | None = None
