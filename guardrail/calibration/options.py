"""Options of a profile to be made. Plain values, without NumPy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from guardrail.calibration.domain import Unit
from guardrail.calibration.profile import Guarantee
from guardrail.errors import OptionError

__all__ = ["CalibratorChoice", "FitOptions", "InputsChoice", "MakingSource", "Shares"]


InputsChoice = Literal["auto", "hybridgrad", "signals", "probe"]
CalibratorChoice = Literal["auto", "isotonic", "platt", "venn_abers"]


class Shares(NamedTuple):
    """Share of the questions for each part."""

    fit: float = 0.4
    certify: float = 0.4
    report: float = 0.2


_SHARES = Shares()


@dataclass(frozen=True, slots=True)
class FitOptions:
    """Options for making a profile.

    Attributes:
        inputs: Inputs of the confidence; ``auto`` takes the best on the fitting part.
        calibrator: Calibrator of the confidence; ``auto`` likewise.
        guarantees: Guarantees to certify thresholds for.
        seed: Seed of the parts and folds.
        shares: Sizes of the parts.
        is_general: The profile is for other people's traffic: its thresholds are a report, and accept no
            answer of an app.
        by_kind: Field of a line that names its kind: each guarantee is certified for each kind as well.
            Empty for the pooled guarantees alone.
        unit: What the profile is made of. One of sentences certifies nothing.

    Raises:
        OptionError: A value is unknown or out of range.
    """

    inputs: InputsChoice = "auto"
    calibrator: CalibratorChoice = "auto"
    guarantees: Sequence[Guarantee] = ()
    seed: int = 0
    shares: Shares = _SHARES
    is_general: bool = False
    by_kind: str = ""
    unit: Unit = "answer"

    def __post_init__(self) -> None:
        for name, known in (("inputs", get_args(InputsChoice)), ("calibrator", get_args(CalibratorChoice))):
            if getattr(self, name) not in known:
                raise OptionError(f"{name} is {getattr(self, name)!r}; it can be {' or '.join(known)}.")
        if self.unit == "sentence" and (self.guarantees or self.by_kind):
            raise OptionError("A profile of sentences certifies nothing: leave out guarantees and by_kind.")
        if self.seed < 0:
            raise OptionError(f"seed is {self.seed}; it must be 0 or more.")
        if not all(share > 0 for share in self.shares) or abs(sum(self.shares) - 1) > 1e-6:
            listed = ", ".join(f"{share:g}" for share in self.shares)
            raise OptionError(f"shares are {listed}; each must be above 0, and their sum must be 1.")
        for one in self.guarantees:
            if not (0 < one.max_error < 1 and 0 < one.confidence < 1):
                raise OptionError(
                    f"A guarantee of {one} is impossible: both shares must be above 0 and below 1."
                )


@dataclass(frozen=True, slots=True)
class MakingSource:
    """The origin of labelled answers, as recorded in the profile.

    Attributes:
        questions: Name of the file of questions.
        questions_sha256: Hash of that file.
        judge: The judge that labelled the answers, or ``labelled`` if the file did.
        generation: Arguments that the answers were generated with.
    """

    questions: str
    questions_sha256: str
    judge: str
    generation: Mapping[str, Any] = field(default_factory=dict)
