"""What a profile is to be made of. Plain values: nothing here loads numpy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from guardrail.calibration.profile import Guarantee
from guardrail.errors import OptionError

__all__ = ["CalibratorChoice", "FitOptions", "InputsChoice", "MakingSource", "Shares"]


InputsChoice = Literal["auto", "hybridgrad", "signals", "probe"]
CalibratorChoice = Literal["auto", "isotonic", "platt", "venn_abers"]


class Shares(NamedTuple):
    """What share of the questions each part gets."""

    fit: float = 0.4
    certify: float = 0.4
    report: float = 0.2


_SHARES = Shares()


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How a profile is made.

    Attributes:
        inputs: What the confidence is made of; ``auto`` takes what does best on the fitting part.
        calibrator: What makes a probability of it; ``auto`` likewise.
        guarantees: What thresholds are to be certified for.
        seed: What the parts and folds are drawn by.
        shares: How large the parts are.

    Raises:
        OptionError: One of them is none of these, or out of its range.
    """

    inputs: InputsChoice = "auto"
    calibrator: CalibratorChoice = "auto"
    guarantees: Sequence[Guarantee] = ()
    seed: int = 0
    shares: Shares = _SHARES

    def __post_init__(self) -> None:
        for name, known in (("inputs", get_args(InputsChoice)), ("calibrator", get_args(CalibratorChoice))):
            if getattr(self, name) not in known:
                raise OptionError(f"{name} is {getattr(self, name)!r}; it can be {' or '.join(known)}.")
        if self.seed < 0:
            raise OptionError(f"seed is {self.seed}; it can be 0 or more.")
        if not all(share > 0 for share in self.shares) or abs(sum(self.shares) - 1) > 1e-6:
            listed = ", ".join(f"{share:g}" for share in self.shares)
            raise OptionError(f"shares are {listed}; each part needs one above 0, and their sum is 1.")
        for one in self.guarantees:
            if not (0 < one.max_error < 1 and 0 < one.confidence < 1):
                raise OptionError(
                    f"A guarantee of {one} cannot be given: both are shares, above 0 and below 1."
                )


@dataclass(frozen=True, slots=True)
class MakingSource:
    """Where labelled answers came from, as the profile tells it.

    Attributes:
        questions: Name of the file of questions.
        questions_sha256: Hash of it.
        judge: Who said what was correct, or ``labelled`` where the file did.
        generation: Arguments that the answers were generated with.
    """

    questions: str
    questions_sha256: str
    judge: str
    generation: Mapping[str, Any] = field(default_factory=dict)
