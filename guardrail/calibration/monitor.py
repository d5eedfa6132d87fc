"""Watches live traffic against the profile, and says when the guarantee no longer stands.

Two questions, each asked after every answer, with one bound on all false alarms together:

- *Has the traffic changed?* Unlabelled: a conformal test martingale on each score that is watched.
- *Are more of the answers let through wrong than was promised?* Labelled: a test martingale for each
  guarantee. This is the one that judges the guarantee itself; a shift alone need not break it.

The chance that an unchanged stream, however long, ever raises an alarm is at most ``false_alarms`` (Ville's
inequality, divided among the scores and guarantees). For the scores, "unchanged" is that traffic and
reference are exchangeable; a reference that keeps quantiles of many answers counts as that many answers. For
the errors it is that each is wrong with a chance of at most ``max_error``, whatever came before.

An app feeds it with what a guard gives: the answer, or its verdict. What the profile makes no promise of (it
was not scored, somebody else gave it, it was asked for or drawn in another way) is left out, and the status
tells how much that was; the verdict of another profile is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from numbers import Real
from typing import Any, Protocol, Self

from guardrail.calibration.martingales import ErrorEvidence, ShiftEvidence
from guardrail.calibration.profile import Assessment, Guarantee, Profile
from guardrail.errors import CalibrationError, OptionError, ProfileError
from guardrail.labelling.observation import Observation
from guardrail.utils.threads import ForkSafeLock

__all__ = ["DriftStatus", "Monitor"]

# What is watched where the profile has it; more scores tell little more and share one bound.
_SCORE = "confidence_score"
_WATCHED = (_SCORE, "hybridgrad")
_VERSION = 1
# What a verdict says of the draft, for what is watched.
_OF_VERDICTS = ("profile", "outside_domain", "confidence_score", "scores", "quantiles", "guarantees")


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
        left_out: Answers that were seen and not counted, since the profile makes no promise of them.
    """

    drifted: bool
    signal: str | None
    e_value: float
    limit: float
    n: int
    reason: str
    left_out: int = 0

    @property
    def p_value(self) -> float:
        """Anytime-valid p-value of the signal alone, not corrected for their number."""
        return min(1.0, 1 / self.e_value) if self.e_value > 0 else 1.0


class _Guarded(Protocol):
    """An answer of a guard (``GuardedAnswer``)."""

    def as_plain(self) -> Mapping[str, Any]:
        """Its verdict."""


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
        self._left_out = 0
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

    def observe(self, answer: Observation | Assessment | Mapping[str, Any] | _Guarded) -> DriftStatus:
        """Take one answer of live traffic into account, whether or not it was let through.

        Args:
            answer: An answer of a guard, or its verdict (``answer.as_plain()``, what a message of LangChain
                has as ``response_metadata["uncertainty"]``, a record of the decision log), also where it was
                withheld. Or what the pass told of it; or scores by name, with ``confidence_score`` among
                them; or what the profile said of it, of which the confidence score alone is watched.

        Raises:
            CalibrationError: A score that is watched is missing, or one of them is not a finite number; or it
                is a verdict by another profile.
        """
        known = answer if isinstance(answer, Observation | Assessment) else self._scores_of(answer)
        values = {} if known is None else self._watched_of(known)
        with self._lock:
            self._left_out += known is None
            for name, value in values.items():
                self._shifts[name].add(value)
            return self._status()

    def outcome(
        self, confidence_score: float | Mapping[str, Any] | _Guarded, *, correct: bool
    ) -> DriftStatus:
        """Take into account what became known of one answer: whether it was correct.

        Labels should come from a random choice of the answers let through: those that users complain of are
        wrong more often than the rest.

        Args:
            confidence_score: The answer's; or an answer of a guard, or its verdict, as for :meth:`observe`.
            correct: Whether the model's own draft was.

        Raises:
            CalibrationError: The score is not a finite number, or it is a verdict by another profile.
        """
        known: Mapping[str, Any] | None
        if isinstance(confidence_score, Real):
            if not isfinite(confidence_score):
                raise CalibrationError(f"The confidence score of this outcome is {confidence_score}.")
            known = {_SCORE: confidence_score}
        else:
            known = self._scores_of(confidence_score)
        score = None if known is None else _number(known, _SCORE)
        with self._lock:
            self._left_out += score is None
            for threshold, evidence in self._errors.values():
                if score is not None and score >= threshold:
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
                "left_out": self._left_out,
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
            # States of before it was counted have none.
            monitor._left_out = int(values.get("left_out", 0))
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

    def _scores_of(self, answer: Any) -> Mapping[str, Any] | None:
        """The scores that an app gave, or those of a verdict; None where the profile makes no promise."""
        verdict = answer if isinstance(answer, Mapping) else _verdict_of(answer)
        if "action" not in verdict:
            return verdict
        missing = [name for name in _OF_VERDICTS if name not in verdict]
        if missing:
            raise CalibrationError(
                f"This verdict says nothing of {missing[0]}: it was given by an earlier version, or is none."
            )
        if verdict["profile"] != self._profile.digest:
            other = verdict["profile"]
            whose = f"the profile {str(other)[:12]}" if other else "no profile"
            raise CalibrationError(
                f"This verdict is by {whose}, and the monitor watches {self._profile.digest[:12]}. Watch the "
                "profile that the guard uses."
            )
        # Quantiles are there where the profile was asked: not where the draft repeats a policy's message.
        is_assessed = bool(verdict["scores"] and verdict["quantiles"]) and not verdict["outside_domain"]
        if self._profile.is_calibrated:
            is_assessed &= verdict[_SCORE] is not None and verdict["guarantees"] is not None
        return {**verdict["scores"], _SCORE: verdict[_SCORE]} if is_assessed else None

    def _watched_of(self, answer: Observation | Assessment | Mapping[str, Any]) -> dict[str, float]:
        names = tuple(self._shifts)
        if isinstance(answer, Assessment):
            score = answer.confidence_score
            scores: Mapping[str, Any] = {} if score is None else {"confidence_score": score}
            names = tuple(name for name in names if name == "confidence_score")
        elif isinstance(answer, Observation):
            scores = answer.scores
            if "confidence_score" in names and self._profile.confidence_model is not None:
                scores = {**scores, "confidence_score": self._profile.confidence_model.score(answer)}
        else:
            scores = answer
        return {name: _number(scores, name) for name in names}

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
            nothing = "nothing to watch: the profile has no reference"
            return DriftStatus(False, None, 0.0, limit, 0, nothing, self._left_out)
        alarms = [one for one in ranked if one[0] >= limit]
        e_value, signal, n, words = alarms[0] if alarms else max(ranked, key=lambda one: one[0])
        reason = words if alarms else f"no alarm; most evidence so far in {signal}"
        if self._left_out:
            left = "1 answer was" if self._left_out == 1 else f"{self._left_out:,} answers were"
            reason = f"{reason} ({left} left out: the profile makes no promise of such)"
        return DriftStatus(bool(alarms), signal, e_value, limit, n, reason, self._left_out)


def _verdict_of(answer: Any) -> Mapping[str, Any]:
    plain = getattr(answer, "as_plain", None)
    verdict = plain() if callable(plain) else None
    if not isinstance(verdict, Mapping) or "action" not in verdict:
        raise CalibrationError(
            f"A {type(answer).__name__} cannot be watched; give an answer of a guard, its verdict, or its "
            "scores by name."
        )
    return verdict


def _number(scores: Mapping[str, Any], name: str) -> float:
    if name not in scores:
        raise CalibrationError(f"The monitor watches {name}, and this answer has none.")
    value = scores[name]
    if isinstance(value, bool) or not isinstance(value, Real) or not isfinite(value):
        raise CalibrationError(f"{name} of this answer is {value}; it cannot be watched.")
    return float(value)


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
