"""What does a promise that was certified at home let through elsewhere, until and after the alarm?

    python -m experiments.across_kinds.certified ANSWERS.jsonl ANSWERS.jsonl … --output certified.md

Takes files of answers that ``guardrail calibrate`` kept, one for each kind of questions. Homes are each kind
with enough answers to certify something, and all kinds but one, pooled; away is every kind that was not at
home. Answers away come in random order, as a stream: an answer counts as certified as it does in an app, if
the domain of the profile fits, the traffic is familiar by then, and the threshold accepts it. Beside that
stands what would count without looking at domain and traffic.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.across_kinds.reading import Kind, profile_of, read_kind
from guardrail.calibration.familiarity import Familiarity
from guardrail.calibration.options import Shares
from guardrail.calibration.profile import Guarantee, Profile
from guardrail.calibration.splits import split
from guardrail.labelling.answers import LabelledAnswer

_GUARANTEES = (Guarantee(0.2, 0.95), Guarantee(0.3, 0.95))
_SHARES = Shares(0.4, 0.4, 0.2)
# Fewer answers certify nothing worth the name.
_LEAST_AT_HOME = 300
_COLUMNS = (
    "promise",
    "certified in",
    "alarm in (median after)",
    "without the gate: let through",
    "wrong",
    "with it: let through",
    "wrong",
    "after the alarm",
)
_HEAD = f"| home | away | {' | '.join(_COLUMNS)} |\n|---|---|{'---:|' * len(_COLUMNS)}"


class Counts(NamedTuple):
    """What one profile did to one stream, of one promise.

    Attributes:
        feasible: Whether a threshold was certified.
        answers: How many there were.
        ungated: Answers above the threshold, and the wrong ones among them.
        gated: The same of those that count as certified in an app.
        after: How many of these came after the alarm.
        alarm: Answers until the alarm; None without one.
    """

    feasible: bool
    answers: int
    ungated: tuple[int, int]
    gated: tuple[int, int]
    after: int
    alarm: int | None


def main() -> None:
    """Make profiles, send them streams, count, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("answers", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--splits", type=int, default=10)
    arguments = parser.parse_args()
    kinds = [read_kind(path) for path in arguments.answers]
    lines = [_HEAD]
    for name, home, others in _homes(kinds):
        profiles = [_profile(home, kinds[0], seed) for seed in range(arguments.splits)]
        held_out = [[home[at] for at in split(home, _SHARES, seed).report] for seed in range(len(profiles))]
        streams: list[tuple[str, Sequence[Sequence[LabelledAnswer]]]] = [("itself, held out", held_out)]
        streams += [(one.name, [one.answers] * len(profiles)) for one in others]
        for away, answers in streams:
            for guarantee in _GUARANTEES:
                counts = [
                    count(profile, several, guarantee, seed)
                    for seed, (profile, several) in enumerate(zip(profiles, answers, strict=True))
                ]
                lines.append(_row(name, away, guarantee, counts))
                print(lines[-1], flush=True)
    arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _homes(kinds: Sequence[Kind]) -> Iterator[tuple[str, list[LabelledAnswer], list[Kind]]]:
    """Each home with its answers and the kinds that are away."""
    for one in kinds:
        others = [other for other in kinds if other is not one]
        if len(one.answers) >= _LEAST_AT_HOME:
            yield one.name, [*one.answers], others
        yield f"all but {one.name}", [answer for other in others for answer in other.answers], [one]


def _profile(home: Sequence[LabelledAnswer], kind: Kind, seed: int) -> Profile:
    options = {"guarantees": _GUARANTEES, "seed": seed, "shares": _SHARES}
    return profile_of(home, kind.made, options)


def count(profile: Profile, answers: Sequence[LabelledAnswer], guarantee: Guarantee, seed: int) -> Counts:
    """Send answers through a profile, in an order drawn by ``seed``."""
    found = profile.certified_for(guarantee)
    feasible = found is not None and found.threshold is not None
    familiarity = Familiarity(profile, f"stream {seed}")
    ungated, gated = [0, 0], [0, 0]
    after, alarm = 0, None
    for place, at in enumerate(np.random.default_rng(seed).permutation(len(answers)).tolist(), 1):
        answer = answers[at]
        status = familiarity.observe(answer.observation.hidden)
        if status.familiar == "unlike" and alarm is None:
            alarm = place
        accepted = guarantee in profile.assess(answer.observation).guarantees
        counts = status.familiar == "familiar" and not profile.domain.differences(answer.facts)
        ungated[0] += accepted
        ungated[1] += accepted and not answer.correct
        gated[0] += accepted and counts
        gated[1] += accepted and counts and not answer.correct
        after += accepted and counts and alarm is not None
    return Counts(feasible, len(answers), (ungated[0], ungated[1]), (gated[0], gated[1]), after, alarm)


def _row(home: str, away: str, guarantee: Guarantee, counts: Sequence[Counts]) -> str:
    answers = sum(one.answers for one in counts if one.feasible)
    alarms = sorted(one.alarm for one in counts if one.alarm is not None)
    median = f" ({alarms[len(alarms) // 2]})" if alarms else ""

    def shares(pairs: Sequence[tuple[int, int]]) -> list[str]:
        through, wrong = sum(one for one, _ in pairs), sum(one for _, one in pairs)
        return [
            f"{through / answers:.1%}" if answers else "–",
            f"{wrong / through:.0%} of {through}" if through else "–",
        ]

    cells = [
        home,
        away,
        f"{guarantee.max_error:.0%}",
        f"{sum(one.feasible for one in counts)} of {len(counts)}",
        f"{len(alarms)} of {len(counts)}{median}",
        *shares([one.ungated for one in counts]),
        *shares([one.gated for one in counts]),
        f"{sum(one.after for one in counts)}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
