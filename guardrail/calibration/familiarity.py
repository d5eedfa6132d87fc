"""Is the traffic of an app like the answers that its profile was made of? Found out without a label.

A certificate holds for the traffic that its labels were drawn from. Whether an app's traffic is such cannot
be seen in one answer, but in a stream of them (:mod:`guardrail.calibration.two_sample`). This is a gate
against false alarms, not against misses: at most one stream in a hundred whose questions are the profile's
ever raises an alarm, however long it runs; a change of questions is found the sooner the larger it is, and
one that the hidden states hardly show, or that concerns a tenth of the questions, may never be found.

Repeated questions are no fresh evidence: traffic that asks one question again and again is unlike a profile
of different ones, and is called so.
"""

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError

from guardrail.calibration.guarantees import NO_STATES
from guardrail.calibration.profile import Profile
from guardrail.calibration.reference_states import ReferenceStates
from guardrail.calibration.two_sample import TwoSampleTest
from guardrail.errors import CalibrationError, ProfileError
from guardrail.scoring.uncertainty import HiddenState
from guardrail.utils.record_store import FrozenModel
from guardrail.utils.threads import ForkSafeLock

__all__ = ["ENOUGH", "LIMIT", "MOST_STREAMS", "Familiarity", "FamiliarityStatus", "Streams"]


# Answers compared without an alarm from which traffic is familiar: a change as large as that between kinds of
# questions is found by then in more than 90 of 100 streams (experiments/familiarity).
ENOUGH = 50
# E-value at which an alarm is raised: at most 1 in 100 streams without a change ever reaches it.
LIMIT = 100.0
# Streams that are kept; of more, the one without an alarm that was longest without an answer is forgotten.
MOST_STREAMS = 256
_VERSION = 1


@dataclass(frozen=True, slots=True)
class FamiliarityStatus:
    """What is known of a stream so far.

    Attributes:
        familiar: ``untried`` (too few answers to tell), ``familiar``, or ``unlike`` (an alarm, which stays
            until there is a new profile).
        compared: Number of answers compared; it does not grow after an alarm.
        e_value: Largest e-value so far: 1/p for an anytime-valid p-value p.
    """

    familiar: Literal["untried", "familiar", "unlike"]
    compared: int
    e_value: float

    @property
    def words(self) -> str:
        """What is known, in words for a person."""
        if self.familiar == "untried":
            return f"the questions so far are too few to compare: {self.compared} of {ENOUGH}"
        if self.familiar == "familiar":
            return f"{self.compared:,} answers compared, and nothing unlike those of the profile found"
        return (
            f"the questions are unlike those of the profile, as {self.compared:,} answers show; guardrail "
            "calibrate makes a profile of them"
        )


class Familiarity:
    """One stream of answers, compared with a profile's states. Safe to share among threads.

    Args:
        profile: The profile; it keeps states.
        stream: Name of the stream, so that several do not share their luck.

    Raises:
        CalibrationError: The profile keeps no states.
    """

    def __init__(self, profile: Profile, stream: str = "") -> None:
        self._states = _states_of(profile)
        self._seed = f"{profile.digest} {stream}"
        self._test = TwoSampleTest(self._states.values, self._seed)
        self._lock = ForkSafeLock()

    def observe(self, hidden: HiddenState | None) -> FamiliarityStatus:
        """Add an answer.

        Raises:
            CalibrationError: Its hidden state is missing, of another depth or width, or not finite.
        """
        state = self._states.projected(hidden)
        with self._lock:
            if self._test.highest < LIMIT:
                self._test.add(state)
            return self._status()

    def status(self) -> FamiliarityStatus:
        """What is known so far."""
        with self._lock:
            return self._status()

    def as_plain(self) -> dict[str, Any]:
        """The state as plain values for JSON."""
        with self._lock:
            return self._test.as_plain()

    @classmethod
    def from_plain(cls, profile: Profile, values: Mapping[str, Any], stream: str = "") -> Self:
        """The stream with the state returned by :meth:`as_plain`.

        Raises:
            ProfileError: The state is invalid.
            CalibrationError: The profile keeps no states.
        """
        familiarity = cls(profile, stream)
        try:
            reference = familiarity._states.values
            familiarity._test = TwoSampleTest.from_plain(reference, familiarity._seed, values)
        except (TypeError, ValueError) as error:
            raise ProfileError(f"A state of familiarity cannot be read: {_first(error)}.") from error
        return familiarity

    def _status(self) -> FamiliarityStatus:
        test = self._test
        e_value = float(test.highest)
        if e_value >= LIMIT:
            return FamiliarityStatus("unlike", test.n, e_value)
        return FamiliarityStatus("familiar" if test.n >= ENOUGH else "untried", test.n, e_value)


class _StreamState(FrozenModel):
    tags: tuple[str, ...]
    compared: Mapping[str, Any]


class _StreamStates(FrozenModel):
    version: Literal[1]
    profile: str
    patterns: tuple[str, ...]
    streams: Annotated[tuple[_StreamState, ...], Field(max_length=MOST_STREAMS)]
    sha256: str


class Streams:
    """The streams of an app, each with a familiarity of its own. Safe to share among threads and guards.

    Args:
        profile: The profile; it keeps states.
        patterns: Tags that divide the traffic, such as ``tenant-*``: requests with the same matching tags
            are one stream. Without patterns all are one.

    Raises:
        CalibrationError: The profile keeps no states.
    """

    def __init__(self, profile: Profile, patterns: Sequence[str] = ()) -> None:
        _states_of(profile)
        self._profile, self._patterns = profile, tuple(patterns)
        self._digest = profile.digest
        self._streams: OrderedDict[tuple[str, ...], Familiarity] = OrderedDict()
        self._lock = ForkSafeLock()

    def stream_of(self, tags: Iterable[str]) -> tuple[str, ...]:
        """The stream of a request: those of its tags that a pattern matches, sorted."""
        return tuple(sorted({tag for tag in tags if any(fnmatchcase(tag, one) for one in self._patterns)}))

    def observe(self, tags: Iterable[str], hidden: HiddenState | None) -> FamiliarityStatus:
        """Add an answer to the stream of its request.

        Raises:
            CalibrationError: Its hidden state is missing, of another depth or width, or not finite.
        """
        stream = self.stream_of(tags)
        with self._lock:
            known = self._streams.pop(stream, None) or Familiarity(self._profile, _name(stream))
            self._streams[stream] = known
            if len(self._streams) > MOST_STREAMS:
                # Whoever has many names must not be rid of an alarm by using the others.
                calm = (name for name, one in self._streams.items() if one.status().familiar != "unlike")
                del self._streams[next(calm, next(iter(self._streams)))]
        return known.observe(hidden)

    def status(self, tags: Iterable[str]) -> FamiliarityStatus:
        """What is known of the stream of a request."""
        with self._lock:
            known = self._streams.get(self.stream_of(tags))
        return known.status() if known else FamiliarityStatus("untried", 0, 0.0)

    def is_of(self, profile: Profile, patterns: Sequence[str]) -> bool:
        """Whether these are the streams of this profile, divided by these tags."""
        return self._digest == profile.digest and self._patterns == tuple(patterns)

    def known(self) -> list[tuple[str, ...]]:
        """What is known of each stream that is no longer untried: its tags, after how familiar it is."""
        with self._lock:
            found = [(one.status().familiar, *tags) for tags, one in self._streams.items()]
        return sorted(one for one in found if one[0] != "untried")

    def as_plain(self) -> dict[str, Any]:
        """All streams as plain values for JSON, to survive restarts of a service."""
        with self._lock:
            values = {
                "version": _VERSION,
                "profile": self._digest,
                "patterns": list(self._patterns),
                "streams": [
                    {"tags": list(tags), "compared": one.as_plain()} for tags, one in self._streams.items()
                ],
            }
        plain = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return {**values, "sha256": sha256(plain.encode()).hexdigest()}

    @classmethod
    def from_plain(cls, profile: Profile, patterns: Sequence[str], values: Mapping[str, Any]) -> Self:
        """The streams with the state returned by :meth:`as_plain`.

        Raises:
            ProfileError: The state is invalid, was altered, or is of another profile.
            CalibrationError: The profile keeps no states.
        """
        try:
            states = _StreamStates.model_validate(values)
        except ValidationError as error:
            raise ProfileError(f"The state of familiarity cannot be read: {_first(error)}.") from error
        streams = cls(profile, states.patterns)
        if states.profile != streams._digest:
            raise ProfileError(
                "The state of familiarity is of another profile. Start without it: what is known of the "
                "traffic does not hold for this one."
            )
        streams._streams.update(
            (one.tags, Familiarity.from_plain(profile, one.compared, _name(one.tags)))
            for one in states.streams
        )
        if streams.as_plain()["sha256"] != states.sha256:
            raise ProfileError("The state of familiarity cannot be read: it was altered since it was kept.")
        # Divided otherwise, a stream of the same name is of other requests: it is untried.
        return streams if streams.is_of(profile, patterns) else cls(profile, patterns)


def _name(stream: tuple[str, ...]) -> str:
    return "\n".join(stream)


def _states_of(profile: Profile) -> ReferenceStates:
    if profile.states is None:
        raise CalibrationError(f"{NO_STATES[0].upper()}{NO_STATES[1:]}.")
    return profile.states


def _first(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
