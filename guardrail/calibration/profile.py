"""The Profile: what was learned of one model's answers, as a file that a reviewer can read.

Plain data. Reading a profile and judging an answer by it loads neither torch nor numpy, so that a policy can
be checked in an instant.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, NoReturn, Self

from pydantic import AfterValidator, Field, JsonValue, ValidationError, model_validator

from guardrail.calibration.calibrators import Calibrator, VennAbers
from guardrail.calibration.confidence import ConfidenceModel
from guardrail.calibration.consistency import contradiction_in
from guardrail.calibration.reference_distribution import ReferenceDistribution
from guardrail.errors import ForeignProfileError, ProfileError
from guardrail.labelling.author import Author, name_problem, same_name
from guardrail.labelling.observation import Observation
from guardrail.models.fingerprint import ModelFingerprint
from guardrail.scoring.options import ScorerFingerprint
from guardrail.utils.files import read_regular, write_whole
from guardrail.utils.frozen_model import FrozenModel

if TYPE_CHECKING:
    from guardrail.calibration.monitor import Monitor

__all__ = [
    "REASONING",
    "Assessment",
    "CertifiedThreshold",
    "Guarantee",
    "Making",
    "Profile",
    "read_profile",
    "write_profile",
]

SCHEMA_VERSION = 1
# More than anybody labels: checking a certificate takes its time.
_MOST_ANSWERS = 1_000_000_000
PARTS: tuple[Literal["fit", "certify", "report"], ...] = ("fit", "certify", "report")
# Reference answers and a probe make a profile large, and none is nearly as large as this.
_MOST_BYTES = 256_000_000
# Among the arguments of generation: the share of answers that the model reasoned before; absent for none.
REASONING = "reasoning"
# Not scores of a pass, but made from them; they have a reference distribution too.
OF_THE_PROFILE = ("confidence", "confidence_score")


class Guarantee(NamedTuple):
    """Of the answers let through, at most ``max_error`` are wrong, with this confidence."""

    max_error: float
    confidence: float

    def __str__(self) -> str:
        return f"at most {self.max_error:.3g} wrong with confidence {self.confidence:.3g}"


class CertifiedThreshold(FrozenModel):
    """The least confidence score whose answers keep a guarantee, or why there is none.

    Attributes:
        max_error: Largest share of wrong answers among those let through.
        confidence: Probability that the calibration set led to a threshold that keeps it (1 − δ).
        threshold: Answers with at least this confidence score are let through; None where it is infeasible.
        n: Answers of the part that certified it.
        accepted: Those of them that are let through; where infeasible, by the threshold that came nearest.
        errors: Wrong ones among the accepted.
        needed: Fewest accepted answers that could have certified it: without an error among them.
        reason: Why it is infeasible, or empty.
    """

    max_error: Annotated[float, Field(gt=0, lt=1)]
    confidence: Annotated[float, Field(gt=0, lt=1)]
    threshold: float | None
    n: Annotated[int, Field(ge=0, le=_MOST_ANSWERS)]
    accepted: Annotated[int, Field(ge=0)]
    errors: Annotated[int, Field(ge=0)]
    needed: Annotated[int, Field(gt=0)]
    reason: str = ""

    @property
    def guarantee(self) -> Guarantee:
        """What it guarantees, where it is feasible."""
        return Guarantee(self.max_error, self.confidence)

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        if self.threshold is not None and not self.needed <= self.accepted <= self.n:
            raise ValueError(f"certified by {self.accepted} accepted answers, and {self.needed} are needed")
        if self.errors > self.accepted or self.accepted > self.n:
            raise ValueError(f"{self.errors} errors among {self.accepted} accepted of {self.n} answers")
        if self.threshold is None and not self.reason:
            raise ValueError("infeasible without a reason")
        return self


class Making(FrozenModel):
    """How a profile was made.

    Attributes:
        library: Version of guardrail.
        created: When, ISO 8601 in UTC.
        questions: Name of the file of questions.
        questions_sha256: Hash of it.
        judge: Who said what was correct, or ``labelled`` where the file did.
        correct: Answers judged correct, of
        answers: all that were judged.
        parts: How many answers were fitted on, certified on and reported on; disjoint.
        seed: What the parts were drawn by.
        generation: Arguments that the answers were generated with.
        candidates: Figures by which the inputs and the calibrator were chosen, on the fitting part.
    """

    library: str
    created: str
    questions: str
    questions_sha256: str
    judge: str
    correct: Annotated[int, Field(ge=0)]
    answers: Annotated[int, Field(ge=0)]
    parts: Mapping[Literal["fit", "certify", "report"], Annotated[int, Field(ge=0, le=_MOST_ANSWERS)]]
    seed: int
    generation: Mapping[str, JsonValue] = Field(default_factory=dict)
    candidates: tuple[Mapping[str, JsonValue], ...] = ()


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a profile says of one answer.

    Attributes:
        confidence: Probability of being correct, 0 to 1; None where the profile was made without labels.
        confidence_score: The number behind it, which thresholds are certified on.
        interval: The two probabilities of a Venn–Abers calibrator, of which one is right.
        quantiles: Share of the reference below each score, by its name.
        guarantees: Those that this answer is let through by.
    """

    confidence: float | None
    confidence_score: float | None
    interval: tuple[float, float] | None
    quantiles: Mapping[str, float]
    guarantees: tuple[Guarantee, ...]


def _checked_name(value: str) -> str:
    if problem := name_problem(value):
        raise ValueError(f"answered_by {problem}")
    return value.strip()


class Profile(FrozenModel):
    """What was learned of the answers of one model. A file; see :func:`read_profile`.

    Attributes:
        version: Of this schema.
        model: The model that scored the answers.
        answered_by: Who gave them, by a declared name; None for the model itself, which profiles of before
            this was recorded are taken to be of.
        scorer: How they were scored.
        confidence_model: The sum that ranks answers; None where there were no labels.
        calibrator: Makes a probability of correctness from it.
        certified: Thresholds that were asked for, feasible or not.
        reference: Distribution of each score on answers that nothing was fitted on.
        report: Figures on the part that was held out, each with its n and interval.
        making: How it was made.
    """

    version: Literal[1] = 1
    model: ModelFingerprint
    answered_by: Annotated[str, AfterValidator(_checked_name)] | None = None
    scorer: ScorerFingerprint
    confidence_model: ConfidenceModel | None
    calibrator: Calibrator | None
    certified: tuple[CertifiedThreshold, ...]
    reference: Mapping[str, ReferenceDistribution]
    report: Mapping[str, JsonValue]
    making: Making

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.confidence_model is None) != (self.calibrator is None):
            raise ValueError("confidence_model and calibrator come together")
        if self.certified and self.calibrator is None:
            raise ValueError("thresholds are certified for a confidence, and there is none")
        if self.calibrator is not None and any(self.making.parts.get(part, 0) <= 0 for part in PARTS):
            raise ValueError("fit, certify and report need answers of their own")
        if any(one.n > self.making.parts.get("certify", 0) for one in self.certified):
            raise ValueError("a threshold was certified on more answers than there were")
        return self

    @property
    def is_calibrated(self) -> bool:
        """Whether it gives a probability of correctness, rather than quantiles alone."""
        return self.calibrator is not None

    @property
    def depths(self) -> tuple[float, ...]:
        """Depths of the layers whose hidden states must be kept for it."""
        probe = self.confidence_model.probe if self.confidence_model else None
        return (probe.depth,) if probe else ()

    @property
    def digest(self) -> str:
        """SHA-256 of its content: the same wherever the file lies."""
        return sha256(_canonical(self.as_plain())).hexdigest()

    @property
    def author(self) -> str:
        """Who gave the answers that it is made of."""
        return self.answered_by or self.model.name

    def as_plain(self) -> dict[str, Any]:
        """The values of its file, but for the hash."""
        # Profiles of before who answered was recorded keep their hash.
        return self.model_dump(mode="json", exclude={"answered_by"} if self.answered_by is None else None)

    def certified_for(self, guarantee: Guarantee) -> CertifiedThreshold | None:
        """The threshold for this guarantee, feasible or not; None where it was not asked for."""
        return next((one for one in self.certified if one.guarantee == guarantee), None)

    def check(self, model: ModelFingerprint, scorer: ScorerFingerprint) -> None:
        """Make sure that this is a profile of this model, scored this way.

        The name of a model is shown and not compared: its weights are.

        Raises:
            ForeignProfileError: It is not; the message names each field that differs.
        """
        ours = {**_compared("model", self.model), **_compared("scorer", self.scorer)}
        theirs = {**_compared("model", model), **_compared("scorer", scorer)}
        differences = [name for name in ours if ours[name] != theirs[name]]
        if differences:
            listed = "; ".join(f"{name} is {theirs[name]}, not {ours[name]}" for name in differences)
            raise ForeignProfileError(
                f"The profile was made for {self.model.name} and does not hold for {model.name}: {listed}. "
                "Calibrate this model (guardrail calibrate), or use what the profile was made for.",
                differences,
            )

    def outside_domain(self, author: Author | None, model: str) -> str:
        """Say why it does not hold for an answer, in words; empty where it does.

        Args:
            author: Who gave the answer; None for the model that scores it.
            model: What that model is called here; it has been made sure that it is the profile's.
        """
        if self.answered_by is None:
            holds = author is None or any(same_name(author.name, own) for own in (model, self.model.name))
        else:
            holds = author is not None and same_name(author.name, self.answered_by)
        if holds and not (author and author.doubt):
            return ""
        said = f"the answer is of {author.name if author else model}, the profile of {self.author}"
        return f"{said}; {author.doubt}" if author and author.doubt else said

    def assess(self, observation: Observation) -> Assessment:
        """Say how likely one answer is to be correct, and where it stands among others.

        Raises:
            CalibrationError: A score or hidden state that the profile needs is missing, or one of them is not
                a number.
        """
        score = self.confidence_model.score(observation) if self.confidence_model else None
        return self.assess_score(score, observation.scores)

    def assess_score(self, score: float | None, scores: Mapping[str, float]) -> Assessment:
        """The same of an answer whose confidence score is known, for which no hidden state is needed.

        Args:
            score: Its confidence score; None where the profile was made without labels.
            scores: Its scores by name.
        """
        values, confidence, interval = dict(scores), None, None
        if self.calibrator is not None and score is not None:
            confidence = self.calibrator.probability(score)
            values |= {"confidence": confidence, "confidence_score": score}
            if isinstance(self.calibrator, VennAbers):
                interval = self.calibrator.interval(score)
        return Assessment(
            confidence=confidence,
            confidence_score=score,
            interval=interval,
            quantiles={
                name: reference.quantile_of(values[name])
                for name, reference in self.reference.items()
                if name in values
            },
            guarantees=tuple(
                one.guarantee
                for one in self.certified
                if one.threshold is not None and score is not None and score >= one.threshold
            ),
        )

    def monitor(self, *, false_alarms: float = 0.01) -> "Monitor":
        """Watch live traffic for the day when what was learned no longer holds.

        Args:
            false_alarms: Share of unchanged streams, however long, of which a monitor may ever say so.
        """
        from guardrail.calibration.monitor import Monitor

        return Monitor(self, false_alarms=false_alarms)


def read_profile(path: str | Path) -> Profile:
    """Read a profile.

    Args:
        path: Its file: a regular one, not a pipe or a device.

    Raises:
        ProfileError: There is none, it is not one, or it was altered since it was written.
    """
    try:
        values = json.loads(read_regular(Path(path), _MOST_BYTES), parse_constant=_refuse_constant)
    except FileNotFoundError as error:
        raise ProfileError(f"There is no profile {path}. guardrail calibrate makes one.") from error
    except OSError as error:
        raise ProfileError(f"The profile {path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{path} is no profile: it is not JSON ({error}).") from error
    if not isinstance(values, dict):
        raise ProfileError(f"{path} is no profile: it is not a JSON object.")
    digest = values.pop("sha256", None)
    if values.get("version") != SCHEMA_VERSION:
        raise ProfileError(
            f"{path} has version {values.get('version')!r}, and this guardrail reads version "
            f"{SCHEMA_VERSION}. Make it again with guardrail calibrate."
        )
    try:
        profile = Profile.model_validate(values)
        if problem := contradiction_in(profile):
            raise ProfileError(
                f"{path} contradicts itself: {problem}. Make it again with guardrail calibrate."
            )
        altered = digest != profile.digest
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the profile"
        raise ProfileError(f"{path} is no profile that can be used: {place}: {first['msg']}.") from error
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{path} is no profile that can be used: {error}.") from error
    if altered:
        raise ProfileError(
            f"{path} was altered since it was written: its sha256 does not fit. Make it again with guardrail "
            "calibrate."
        )
    return profile


def write_profile(profile: Profile, path: str | Path) -> None:
    """Write a profile, whole or not at all.

    Raises:
        ProfileError: The file cannot be written.
    """
    values = {**profile.as_plain(), "sha256": profile.digest}
    write_whole(Path(path), _readable(values) + "\n", ProfileError)


def _readable(values: Mapping[str, Any]) -> str:
    """JSON with numbers side by side: a thousand of them are no reading matter, one below the other."""
    text = json.dumps(values, indent=2, ensure_ascii=False)
    # A text in JSON has no line break, so it cannot be taken for a list.
    return re.sub(r"\[\n[^\[\]{}\"]*\]", lambda found: " ".join(found[0].split()), text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _compared(room: str, fingerprint: ModelFingerprint | ScorerFingerprint) -> dict[str, Any]:
    values = fingerprint.as_plain()
    values.pop("name", None)
    return {f"{room}.{name}": value for name, value in values.items()}


def _canonical(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
