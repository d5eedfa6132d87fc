"""The Profile: what was learned about one model's answers, in a file that a reviewer can read.

Plain data. Reading a profile and assessing an answer with it loads neither torch nor NumPy, so that checking
a policy is instant.
"""

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, Self

from pydantic import AfterValidator, JsonValue, ValidationError, model_validator

from guardrail.calibration.calibrators import Adapted, Calibrator, ReferenceDistribution, VennAbers
from guardrail.calibration.confidence import ConfidenceModel
from guardrail.calibration.consistency import contradiction_in
from guardrail.calibration.domain import Domain, Unit, wrong_unit
from guardrail.calibration.guarantees import GENERAL, NO_STATES, CertifiedThreshold, Guarantee
from guardrail.calibration.making import Making
from guardrail.calibration.reference_states import ReferenceStates
from guardrail.errors import ForeignProfileError, ProfileError
from guardrail.labelling.provenance import Author, name_problem, same_name
from guardrail.models.fingerprint import ModelFingerprint
from guardrail.scoring.options import ScorerFingerprint
from guardrail.scoring.uncertainty import DOCUMENT_GAIN, Observation
from guardrail.utils.files import read_regular, write_whole
from guardrail.utils.json_lines import readable_json
from guardrail.utils.record_store import FrozenModel

if TYPE_CHECKING:
    from guardrail.calibration.monitor import Monitor

__all__ = [
    "Assessment",
    "CertifiedThreshold",
    "Guarantee",
    "Making",
    "Profile",
    "read_profile",
    "write_profile",
]

SCHEMA_VERSION = 2
PARTS: tuple[Literal["fit", "certify", "report"], ...] = ("fit", "certify", "report")
# Reference answers and a probe make a profile large, but never this large.
_MOST_BYTES = 256_000_000
# Not scores of a pass but derived from them; they have a reference distribution too.
OF_THE_PROFILE = ("confidence", "confidence_score")


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a profile says about an answer.

    Attributes:
        confidence: Probability of being correct, 0 to 1; None if the profile was made without labels.
        confidence_score: The score behind it, to which thresholds apply.
        interval: How far the confidence may be off: the two probabilities of a Venn–Abers calibrator, one of
            which is right, or the 95 % interval of an adapted one; None for others.
        quantiles: Share of the reference answers below each score, by score.
        guarantees: The guarantees that accept the answer.
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
    """What was learned about one model's answers; a file, see :func:`read_profile`.

    Attributes:
        version: Version of the schema.
        model: The model that scored the answers.
        answered_by: Declared name of the answers' author; None for the model itself, and in profiles from
            before this was recorded.
        scorer: How the answers were scored.
        confidence_model: The sum that ranks answers; None without labels.
        calibrator: Turns that sum into a probability of being correct.
        domain: What the answers were like that it was made from.
        unit: What it is made of: whole answers, or sentences of answers, each with a score of its own given
            all before it. A profile of sentences keeps no states and certifies nothing.
        is_general: Whether it was made for other people's traffic, like the profiles that ship: it gives a
            confidence, and its certified thresholds are a report and accept no answer of an app.
        certified: The requested thresholds, feasible or not.
        reference: Distribution of each score on answers that nothing was fitted on.
        states: Hidden states of such answers, which traffic is compared with; None in profiles whose answers
            have none.
        report: Figures on the held-out part, each with its n and interval.
        making: How the profile was made.
    """

    version: Literal[2] = 2
    model: ModelFingerprint
    answered_by: Annotated[str, AfterValidator(_checked_name)] | None = None
    scorer: ScorerFingerprint
    confidence_model: ConfidenceModel | None
    calibrator: Calibrator | None
    domain: Domain
    unit: Unit = "answer"
    is_general: bool = False
    certified: tuple[CertifiedThreshold, ...]
    reference: Mapping[str, ReferenceDistribution]
    states: ReferenceStates | None = None
    report: Mapping[str, JsonValue]
    making: Making

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.confidence_model is None) != (self.calibrator is None):
            raise ValueError("confidence_model and calibrator must be given together")
        if self.certified and self.calibrator is None:
            raise ValueError("thresholds need a confidence to be certified for, but there is none")
        if isinstance(self.calibrator, Adapted) != (self.making.adapted_from is not None):
            raise ValueError("calibrator and making do not agree on whether the profile was adapted")
        if self.is_adapted and self.certified:
            raise ValueError("an adapted profile certifies nothing")
        needed = PARTS[:1] if self.is_adapted else PARTS
        if self.calibrator is not None and any(self.making.parts.get(part, 0) <= 0 for part in needed):
            raise ValueError("fit, certify and report each need answers")
        if (chosen := self.making.semantic_token) and self.scorer.semantic_token not in (
            chosen.position,
            None if chosen.position == chosen.expected else chosen.position,
        ):
            raise ValueError("scorer and making do not agree on the semantic token")
        if any(one.n > self.making.parts.get("certify", 0) for one in self.certified):
            raise ValueError("a threshold was certified on more answers than the certify part has")
        if self.unit == "sentence" and (self.certified or self.depths or self.reads_documents):
            raise ValueError("a profile of sentences has no thresholds, hidden states or documents")
        if len(self.depths) > 1:
            raise ValueError("the probe and the states are of different depths, and one is kept of an answer")
        return self

    @property
    def is_calibrated(self) -> bool:
        """Whether it gives a probability of being correct, and not only quantiles."""
        return self.calibrator is not None

    @property
    def is_adapted(self) -> bool:
        """Whether its confidence is another profile's, corrected by a few answers: it certifies nothing."""
        return isinstance(self.calibrator, Adapted)

    @property
    def certifies_nothing(self) -> str:
        """Why it accepts no answer of an app under any guarantee, in words; empty if it may."""
        return GENERAL if self.is_general else NO_STATES if self.states is None else ""

    @property
    def depths(self) -> tuple[float, ...]:
        """Depths of the layers whose hidden states it needs: one, or none."""
        probe = self.confidence_model.probe if self.confidence_model else None
        return tuple({one.depth for one in (probe, self.states) if one is not None})

    @property
    def reads_documents(self) -> bool:
        """Whether its confidence reads how much the documents in a prompt moved the answer."""
        terms = self.confidence_model.terms if self.confidence_model else ()
        return any(term.score == DOCUMENT_GAIN for term in terms)

    @property
    def digest(self) -> str:
        """SHA-256 of the content; independent of where the file is."""
        plain = json.dumps(self.as_plain(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return sha256(plain.encode()).hexdigest()

    @property
    def author(self) -> str:
        """The author of the answers it was made from."""
        return self.answered_by or self.model.name

    def as_plain(self) -> dict[str, Any]:
        """The values of its file except the hash."""
        values = self.model_dump(mode="json")
        # Left out if None, so that profiles from before these were recorded keep their hash.
        for name in ("answered_by", "states"):
            if values[name] is None:
                del values[name]
        if self.unit == "answer":
            del values["unit"]
        for name in ("adapted_from", "semantic_token"):
            if values["making"][name] is None:
                del values["making"][name]
        return values

    def certified_for(self, guarantee: Guarantee, kind: str = "") -> CertifiedThreshold | None:
        """The threshold for this guarantee, feasible or not; None if it was not requested.

        Args:
            guarantee: The guarantee.
            kind: The kind of question; empty for all in their mix.
        """
        found = (one for one in self.certified if one.guarantee == guarantee and one.kind == kind)
        return next(found, None)

    def kinds_certified_for(self, guarantee: Guarantee) -> tuple[str, ...]:
        """The kinds of question with a feasible threshold for this guarantee."""
        found = (one for one in self.certified if one.guarantee == guarantee and one.threshold is not None)
        return tuple(one.kind for one in found if one.kind)

    def check(self, model: ModelFingerprint, scorer: ScorerFingerprint, unit: Unit = "answer") -> None:
        """Check that this profile is for this model and way of scoring, and made of what is to be assessed.

        Models are compared by their weights, not by name.

        Args:
            model: The model.
            scorer: How it scores.
            unit: What is to be assessed.

        Raises:
            ForeignProfileError: It is not; the message names each field that differs.
        """
        if self.unit != unit:
            raise ForeignProfileError(wrong_unit(self.unit), ["unit"])
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
        """Why the profile does not hold for an answer, in words; empty if it does.

        Args:
            author: The answer's author; None for the model that scores it.
            model: Name of that model here; it has been checked to be the profile's.
        """
        if self.answered_by is None:
            holds = author is None or any(same_name(author.name, own) for own in (model, self.model.name))
        else:
            holds = author is not None and same_name(author.name, self.answered_by)
        if holds and not (author and author.doubt):
            return ""
        said = f"the answer is from {author.name if author else model}, but the profile is for {self.author}"
        return f"{said}; {author.doubt}" if author and author.doubt else said

    def assess(self, observation: Observation, kinds: Set[str] = frozenset()) -> Assessment:
        """Estimate how likely an answer is correct, and its rank among the reference answers.

        Args:
            observation: What the pass tells of the answer.
            kinds: Kinds of question that the request names, see :func:`kinds_in`.

        Raises:
            CalibrationError: A score or hidden state that the profile needs is missing or not a number.
        """
        score = self.confidence_model.score(observation) if self.confidence_model else None
        return self.assess_score(score, observation.scores, kinds)

    def assess_score(
        self, score: float | None, scores: Mapping[str, float], kinds: Set[str] = frozenset()
    ) -> Assessment:
        """Like :meth:`assess`, from a known confidence score, so without a hidden state.

        Args:
            score: The confidence score; None if the profile was made without labels.
            scores: Scores by name.
            kinds: Kinds of question that the request names.
        """
        values, confidence, interval = dict(scores), None, None
        if self.calibrator is not None and score is not None:
            confidence = self.calibrator.probability(score)
            values |= {"confidence": confidence, "confidence_score": score}
            if isinstance(self.calibrator, VennAbers | Adapted):
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
            guarantees=() if score is None else self._accepting(score, kinds),
        )

    def _accepting(self, score: float, kinds: Set[str]) -> tuple[Guarantee, ...]:
        """The guarantees that accept an answer with this score.

        Where guarantees are certified by kind, one whose kind is named is held to the promise of that kind
        alone: the pooled promise holds for the mix, and may be broken in a single kind. A kind that the
        profile does not know, for which nothing could be certified, or that has no name, has none.
        """
        asked = dict.fromkeys(one.guarantee for one in self.certified)
        named = kinds if any(one.kind for one in self.certified) else frozenset()
        return tuple(
            guarantee
            for guarantee in asked
            if "" not in named and all(self._is_accepted(score, guarantee, kind) for kind in named or ("",))
        )

    def _is_accepted(self, score: float, guarantee: Guarantee, kind: str) -> bool:
        found = self.certified_for(guarantee, kind)
        return found is not None and found.threshold is not None and score >= found.threshold

    def monitor(self, *, false_alarms: float = 0.01) -> "Monitor":
        """Watch live traffic for signs that the profile no longer holds.

        Args:
            false_alarms: Maximum probability of ever raising an alarm on unchanged traffic, however long.
        """
        from guardrail.calibration.monitor import Monitor

        return Monitor(self, false_alarms=false_alarms)


def read_profile(path: str | Path) -> Profile:
    """Read a profile.

    Args:
        path: A regular file, not a pipe or device.

    Raises:
        ProfileError: It does not exist, is invalid, or was altered since it was written.
    """
    try:
        values = json.loads(read_regular(Path(path), _MOST_BYTES), parse_constant=_refuse_constant)
    except FileNotFoundError as error:
        raise ProfileError(f"There is no profile {path}. guardrail calibrate makes one.") from error
    except OSError as error:
        raise ProfileError(f"The profile {path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{path} is not a valid profile: it is not JSON ({error}).") from error
    if not isinstance(values, dict):
        raise ProfileError(f"{path} is not a valid profile: it is not a JSON object.")
    digest = values.pop("sha256", None)
    if values.get("version") != SCHEMA_VERSION:
        raise ProfileError(
            f"{path} has version {values.get('version')!r}, but this guardrail reads version "
            f"{SCHEMA_VERSION}. Make it again: guardrail calibrate {_source_of(Path(path))} --output {path}"
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
        raise ProfileError(f"{path} is not a valid profile: {place}: {first['msg']}.") from error
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{path} is not a valid profile: {error}.") from error
    if altered:
        raise ProfileError(
            f"{path} was altered since it was written: its checksum does not match. Make it again with "
            "guardrail calibrate."
        )
    return profile


def _source_of(path: Path) -> str:
    """What a profile can be made again from: the answers that were kept beside it, if they were."""
    answers = path.with_name(f"{path.stem}.answers.jsonl")
    return str(answers) if answers.is_file() else "QUESTIONS.jsonl"


def write_profile(profile: Profile, path: str | Path) -> None:
    """Write a profile atomically.

    Raises:
        ProfileError: The file cannot be written.
    """
    values = {**profile.as_plain(), "sha256": profile.digest}
    write_whole(Path(path), readable_json(values) + "\n", ProfileError)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _compared(room: str, fingerprint: ModelFingerprint | ScorerFingerprint) -> dict[str, Any]:
    values = fingerprint.as_plain()
    values.pop("name", None)
    return {f"{room}.{name}": value for name, value in values.items()}
