"""Watch live traffic against a profile, and report when its guarantee may no longer hold.

Two questions are asked after every answer, with one bound on all false alarms together:

- *Has the traffic changed?* Unlabelled: a conformal test martingale on each watched score.
- *Are more accepted answers wrong than promised?* Labelled: a test martingale for each guarantee. This one
tests
  the guarantee itself; a shift alone need not break it.

The probability that an unchanged stream, however long, ever raises an alarm is at most ``false_alarms``
(Ville's inequality, divided among the scores and guarantees). For the scores, "unchanged" means that traffic
and reference are exchangeable; a reference that keeps quantiles of many answers counts as that many answers.
For the errors it means that each answer is wrong with probability at most ``max_error``, whatever came
before.

An app passes each of the guard's answers, or its verdict, to the monitor. Answers that the profile promises
nothing about (not scored, from another model, asked or generated differently) are left out, and the status
counts them; the verdict of another profile is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from numbers import Real
from typing import Any, Protocol, Self

from guardrail.calibration.martingales import ErrorEProcess, ShiftEProcess
from guardrail.calibration.profile import Assessment, Guarantee, Profile
from guardrail.errors import CalibrationError, OptionError, ProfileError
from guardrail.scoring.uncertainty import Observation
from guardrail.utils.threads import ForkSafeLock

__all__ = ["DriftStatus", "Monitor"]

# Watched if the profile has them; more scores add little and share one bound.
_SCORE = "confidence_score"
_WATCHED = (_SCORE, "hybridgrad")
_VERSION = 1
# Keys of a verdict that the monitor needs.
_OF_VERDICTS = ("profile", "outside_domain", "confidence_score", "scores", "quantiles", "guarantees")


@dataclass(frozen=True, slots=True)
class DriftStatus:
    """Whether the profile still holds.

    Attributes:
        drifted: Whether there has been an alarm; it does not clear by itself.
        signal: Score or guarantee with the strongest evidence; None if there is nothing to watch.
        e_value: Its largest e-value so far: at least 1/p for an anytime-valid p-value p.
        limit: E-value at which an alarm is raised.
        n: Number of answers behind this signal.
        reason: Explanation, with what to do after an alarm.
        left_out: Number of answers not counted, because the profile promises nothing about them.
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
        """Anytime-valid p-value of this signal, not corrected for the number of signals."""
        return min(1.0, 1 / self.e_value) if self.e_value > 0 else 1.0


class _Guarded(Protocol):
    """A guard's answer (``GuardedAnswer``)."""

    def as_plain(self) -> Mapping[str, Any]:
        """Its verdict."""


class Monitor:
    """Accumulates live traffic. Safe to share among threads.

    Args:
        profile: The profile to watch.
        false_alarms: Maximum probability of ever raising an alarm on unchanged traffic, however long.
    """

    def __init__(self, profile: Profile, *, false_alarms: float = 0.01) -> None:
        if not 0 < false_alarms < 1:
            raise OptionError(f"false_alarms is {false_alarms}; it must be between 0 and 1, exclusive.")
        self._profile = profile
        self._false_alarms = false_alarms
        self._lock = ForkSafeLock()
        self._left_out = 0
        self._shifts = {
            name: ShiftEProcess(profile.reference[name].values, f"{profile.digest} {name}")
            for name in _WATCHED
            if name in profile.reference
        }
        self._errors = {
            one.guarantee: (one.threshold, ErrorEProcess(one.max_error))
            for one in profile.certified
            # The promise of a kind has another threshold, and an outcome does not tell its kind.
            if one.threshold is not None and not one.kind
        }

    def observe(self, answer: Observation | Assessment | Mapping[str, Any] | _Guarded) -> DriftStatus:
        """Add an answer of live traffic, whether or not it was accepted.

        Args:
            answer: A guard's answer or its verdict (``answer.as_plain()``,
                ``response_metadata["uncertainty"]`` of a LangChain message, a record of the decision log),
                also if it was withheld. Or an observation; or scores by name including ``confidence_score``;
                or an assessment, of which only the confidence score is watched.

        Raises:
            CalibrationError: A watched score is missing or not finite, or it is another profile's verdict.
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
        """Add the label of an answer: whether it was correct.

        Labels should come from a random sample of the accepted answers: those that users complain about are
        wrong more often than the rest.

        Args:
            confidence_score: The answer's score; or a guard's answer or its verdict, as for :meth:`observe`.
            correct: Whether the model's own draft was correct.

        Raises:
            CalibrationError: The score is not finite, or it is another profile's verdict.
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
        """Whether the profile still holds, judging by everything seen."""
        with self._lock:
            return self._status()

    def as_plain(self) -> dict[str, Any]:
        """The state as plain values for JSON, to survive restarts of a service."""
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
        """A monitor with the state returned by :meth:`as_plain`.

        Raises:
            ProfileError: The state is invalid, or of another profile's monitor.
        """
        try:
            version, digest = values["version"], values["profile"]
            if version != _VERSION or digest != profile.digest:
                raise ProfileError(
                    "The state is from a monitor of another profile or version. Start a new one "
                    "(Profile.monitor)."
                )
            monitor = cls(profile, false_alarms=float(values["false_alarms"]))
            # Absent in states from before it was counted.
            monitor._left_out = int(values.get("left_out", 0))
            monitor._shifts = {
                name: ShiftEProcess.from_plain(evidence.reference, evidence.seed, values["shifts"][name])
                for name, evidence in monitor._shifts.items()
            }
            monitor._errors = {
                guarantee: (threshold, ErrorEProcess.from_plain(guarantee.max_error, state))
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
        """The given scores, or those of a verdict; None if the profile promises nothing about it."""
        verdict = answer if isinstance(answer, Mapping) else _verdict_of(answer)
        if "action" not in verdict:
            return verdict
        missing = [name for name in _OF_VERDICTS if name not in verdict]
        if missing:
            raise CalibrationError(
                f"This verdict has no {missing[0]}: it is from an earlier version, or not a verdict."
            )
        if verdict["profile"] != self._profile.digest:
            other = verdict["profile"]
            whose = f"the profile {str(other)[:12]}" if other else "no profile"
            raise CalibrationError(
                f"This verdict is by {whose}, but the monitor watches {self._profile.digest[:12]}. Watch the "
                f"profile "
                "that the guard uses."
            )
        # Quantiles are there only if the profile was asked: not if the draft repeats a policy's message.
        is_assessed = bool(verdict["scores"] and verdict["quantiles"]) and not verdict["outside_domain"]
        # Drawn otherwise, say: it has a confidence, and the profile promises nothing about it.
        is_assessed &= not verdict.get("domain")
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
        # If both have raised an alarm, the one that tests the guarantee itself comes first.
        ranked = [*errors, *shifts]
        if not ranked:
            nothing = "nothing to watch: the profile has no reference"
            return DriftStatus(False, None, 0.0, limit, 0, nothing, self._left_out)
        alarms = [one for one in ranked if one[0] >= limit]
        e_value, signal, n, words = alarms[0] if alarms else max(ranked, key=lambda one: one[0])
        reason = words if alarms else f"no alarm; strongest evidence so far in {signal}"
        if self._left_out:
            left = "1 answer was" if self._left_out == 1 else f"{self._left_out:,} answers were"
            reason = f"{reason} ({left} left out: the profile promises nothing about such answers)"
        return DriftStatus(bool(alarms), signal, e_value, limit, n, reason, self._left_out)


def _verdict_of(answer: Any) -> Mapping[str, Any]:
    plain = getattr(answer, "as_plain", None)
    verdict = plain() if callable(plain) else None
    if not isinstance(verdict, Mapping) or "action" not in verdict:
        raise CalibrationError(
            f"A {type(answer).__name__} cannot be watched; give a guard's answer, its verdict, or scores by "
            "name."
        )
    return verdict


def _number(scores: Mapping[str, Any], name: str) -> float:
    if name not in scores:
        raise CalibrationError(f"The monitor watches {name}, which this answer lacks.")
    value = scores[name]
    if isinstance(value, bool) or not isinstance(value, Real) or not isfinite(value):
        raise CalibrationError(f"{name} of this answer is {value}; it cannot be watched.")
    return float(value)


def _of_shift(name: str) -> str:
    return (
        f"{name} is no longer distributed as when the profile was made; its guarantees may no longer hold. "
        "Label some of today's answers, and calibrate again."
    )


def _of_errors(guarantee: Guarantee, evidence: ErrorEProcess) -> str:
    return (
        f"{evidence.errors} of {evidence.n} labelled accepted answers are wrong; the guarantee of "
        f"{guarantee} no "
        "longer holds. Calibrate again."
    )
