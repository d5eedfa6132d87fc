"""Watches live traffic against the profile, and says when the guarantee no longer stands.

Two questions, each asked after every answer, with one bound on all false alarms together:

- *Has the traffic changed?* Unlabelled: a conformal test martingale on each score that is watched.
- *Are more of the answers let through wrong than was promised?* Labelled: a test martingale for each
  guarantee. This is the one that judges the guarantee itself; a shift alone need not break it.

The chance that an unchanged stream, however long, ever raises an alarm is at most ``false_alarms`` (Ville's
inequality, divided among the scores and guarantees). For the scores, "unchanged" is that traffic and
reference are exchangeable; a reference that keeps quantiles of many answers counts as that many answers. For
the errors it is that each is wrong with a chance of at most ``max_error``, whatever came before.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Self

from guardrail.calibration.confidence import Observation
from guardrail.calibration.evidence import ErrorEvidence, ShiftEvidence
from guardrail.calibration.profile import Assessment, Guarantee, Profile
from guardrail.errors import CalibrationError, OptionError, ProfileError
from guardrail.utils.fork import ForkSafeLock

__all__ = ["DriftStatus", "Monitor"]

# What is watched where the profile has it; more scores tell little more and share one bound.
_WATCHED = ("confidence_score", "hybridgrad")
_VERSION = 1


@dataclass(frozen=True, slots=True)
class DriftStatus:
    """Whether what the profile says still holds.

    Attributes:
        drifted: Whether there was an alarm, now or before: it does not go away by itself.
        signal: Score or guarantee with the strongest evidence; None where there is nothing to watch.
        e_value: Its largest e-value so far: at least 1/p for an anytime-valid p-value p.
        limit: E-value at which the alarm is raised.
        n: Answers that this signal is judged on.
        reason: In words, with what to do where there was an alarm.
    """

    drifted: bool
    signal: str | None
    e_value: float
    limit: float
    n: int
    reason: str

    @property
    def p_value(self) -> float:
        """Anytime-valid p-value of the signal alone, not corrected for their number."""
        return min(1.0, 1 / self.e_value) if self.e_value > 0 else 1.0


class Monitor:
    """Keeps what was seen of live traffic. Safe to share among threads.

    Args:
        profile: What the traffic is compared with.
        false_alarms: Share of unchanged streams, however long, that may ever raise an alarm.
    """

    def __init__(self, profile: Profile, *, false_alarms: float = 0.01) -> None:
        if not 0 < false_alarms < 1:
            raise OptionError(f"false_alarms is {false_alarms}; it lies between 0 and 1, both left out.")
        self._profile = profile
        self._false_alarms = false_alarms
        self._lock = ForkSafeLock()
        self._shifts = {
            name: ShiftEvidence(profile.reference[name].values, f"{profile.digest} {name}")
            for name in _WATCHED
            if name in profile.reference
        }
        self._errors = {
            one.guarantee: (one.threshold, ErrorEvidence(one.max_error))
            for one in profile.certified
            if one.threshold is not None
        }

    def observe(self, answer: Observation | Assessment | Mapping[str, float]) -> DriftStatus:
        """Take one answer of live traffic into account, whether or not it was let through.

        Args:
            answer: What the pass told of it; or scores by name, with ``confidence_score`` among them; or what
                the profile said of it, of which the confidence score alone is watched.

        Raises:
            CalibrationError: A score that is watched is missing, or one of them is not a finite number.
        """
        values = self._watched_of(answer)
        with self._lock:
            for name, value in values.items():
                self._shifts[name].add(value)
            return self._status()

    def outcome(self, confidence_score: float, *, correct: bool) -> DriftStatus:
        """Take into account what became known of one answer: whether it was correct.

        Labels should come from a random choice of the answers let through: those that users complain of are
        wrong more often than the rest.

        Raises:
            CalibrationError: The score is not a finite number.
        """
        if not isfinite(confidence_score):
            raise CalibrationError(f"The confidence score of this outcome is {confidence_score}.")
        with self._lock:
            for threshold, evidence in self._errors.values():
                if confidence_score >= threshold:
                    evidence.add(correct=bool(correct))
            return self._status()

    def status(self) -> DriftStatus:
        """Whether what the profile says still holds, by all that was seen."""
        with self._lock:
            return self._status()

    def as_plain(self) -> dict[str, Any]:
        """State as plain values for JSON, so that a service that restarts does not forget."""
        with self._lock:
            return {
                "version": _VERSION,
                "profile": self._profile.digest,
                "false_alarms": self._false_alarms,
                "shifts": {name: evidence.as_plain() for name, evidence in self._shifts.items()},
                "errors": [evidence.as_plain() for _, evidence in self._errors.values()],
            }

    @classmethod
    def from_plain(cls, profile: Profile, values: Mapping[str, Any]) -> Self:
        """A monitor with the state that :meth:`as_plain` gave.

        Raises:
            ProfileError: It is the state of a monitor of another profile, or no state at all.
        """
        try:
            version, digest = values["version"], values["profile"]
            if version != _VERSION or digest != profile.digest:
                raise ProfileError(
                    "The state is that of a monitor of another profile or version. Begin a new one "
                    "(Profile.monitor)."
                )
            monitor = cls(profile, false_alarms=float(values["false_alarms"]))
            monitor._shifts = {
                name: ShiftEvidence.from_plain(evidence.reference, evidence.seed, values["shifts"][name])
                for name, evidence in monitor._shifts.items()
            }
            monitor._errors = {
                guarantee: (threshold, ErrorEvidence.from_plain(guarantee.max_error, state))
                for (guarantee, (threshold, _)), state in zip(
                    monitor._errors.items(), values["errors"], strict=True
                )
            }
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ProfileError):
                raise
            raise ProfileError(f"The state of the monitor cannot be read: {error!r}.") from error
        return monitor

    def _watched_of(self, answer: Observation | Assessment | Mapping[str, float]) -> dict[str, float]:
        names = tuple(self._shifts)
        if isinstance(answer, Assessment):
            score = answer.confidence_score
            scores: Mapping[str, float] = {} if score is None else {"confidence_score": score}
            names = tuple(name for name in names if name == "confidence_score")
        elif isinstance(answer, Observation):
            scores = answer.scores
            if "confidence_score" in names and self._profile.confidence_model is not None:
                scores = {**scores, "confidence_score": self._profile.confidence_model.score(answer)}
        else:
            scores = answer
        for name in names:
            if name not in scores:
                raise CalibrationError(f"The monitor watches {name}, and this answer has none.")
            if not isfinite(scores[name]):
                raise CalibrationError(f"{name} of this answer is {scores[name]}; it cannot be watched.")
        return {name: float(scores[name]) for name in names}

    def _status(self) -> DriftStatus:
        limit = max(1, len(self._shifts) + len(self._errors)) / self._false_alarms
        shifts = ((one.highest, name, one.n, _of_shift(name)) for name, one in self._shifts.items())
        errors = (
            (one.highest, str(guarantee), one.n, _of_errors(guarantee, one))
            for guarantee, (_, one) in self._errors.items()
        )
        # What judges the guarantee itself comes first where both have raised an alarm.
        ranked = [*errors, *shifts]
        if not ranked:
            return DriftStatus(False, None, 0.0, limit, 0, "nothing to watch: the profile has no reference")
        alarms = [one for one in ranked if one[0] >= limit]
        e_value, signal, n, words = alarms[0] if alarms else max(ranked, key=lambda one: one[0])
        reason = words if alarms else f"no alarm; most evidence so far in {signal}"
        return DriftStatus(bool(alarms), signal, e_value, limit, n, reason)


def _of_shift(name: str) -> str:
    return (
        f"{name} is no longer distributed as when the profile was made; no guarantee is known to stand. "
        "Label some of today's answers, and calibrate again."
    )


def _of_errors(guarantee: Guarantee, evidence: ErrorEvidence) -> str:
    return (
        f"{evidence.errors} of {evidence.n} labelled answers that were let through are wrong; the guarantee "
        f"of {guarantee} no longer stands. Calibrate again."
    )
