"""After how many answers is a change of questions found, and how often is one found where there is none?

    python -m experiments.familiarity HOME.answers.jsonl OTHER.answers.jsonl … --output familiarity.md

Takes files of answers that ``guardrail calibrate`` kept with their hidden states: the first is home, of which
profiles are made; the others are foreign. Each run draws home anew: a quarter says how far states vary, half
is kept in the profile, and the quarter that is left is home's traffic, held out. No answer comes twice: a
stream ends where a kind has no more.

- *sudden*: all foreign from the first answer;
- *late*: home first, then all foreign; counted from the change;
- *gradual*: the share of foreign answers rises from 0 to 1 over the first 100;
- *mixed*: 50, 30, 10 % foreign throughout;
- *none*: held-out answers of home, for false alarms.

The table says in how many runs there was an alarm before the answers ran out, and after how many answers.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from guardrail.calibration.familiarity import ENOUGH, LIMIT
from guardrail.calibration.reference_states import ReferenceStates
from guardrail.calibration.two_sample import TwoSampleTest
from guardrail.labelling.answers import read_answers
from guardrail.scoring.uncertainty import Observation

_HEAD = (
    f"| home | traffic | shift | answers | found by {ENOUGH} | found | median | 90 % |\n"
    "|---|---|---|---:|---:|---:|---:|---:|"
)
# Foreign share at each answer since the change.
SHIFTS = {
    "sudden": lambda at: 1.0,
    "late": lambda at: 1.0,
    "gradual": lambda at: min(1.0, at / 100),
    "50 % mixed": lambda at: 0.5,
    "30 % mixed": lambda at: 0.3,
    "10 % mixed": lambda at: 0.1,
}


def main() -> None:
    """Read, draw streams, count, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("answers", type=Path, nargs="+", help="home first")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=30)
    arguments = parser.parse_args()
    kinds = {path.name.split(".")[0]: _observations(path) for path in arguments.answers}
    home, *others = kinds
    lines = [_HEAD]
    for traffic, shift in [(home, "none"), *((other, shift) for other in others for shift in SHIFTS)]:
        runs = [_run(kinds[home], kinds[traffic], shift, seed) for seed in range(arguments.runs)]
        lines.append(_row(home, traffic, shift, runs))
        print(lines[-1], flush=True)
    arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _observations(path: Path) -> list[Observation]:
    records = [record for record in read_answers(path).records if record.hidden is not None]
    return [record.observation for record in sorted(records, key=lambda record: record.digest)]


def _run(
    home: Sequence[Observation], foreign: Sequence[Observation], shift: str, seed: int
) -> tuple[int | None, int]:
    """After how many answers since the change there was an alarm, or None; and how many there were."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(home))
    scaling, kept, left = np.split(order, [round(0.25 * len(home)), round(0.75 * len(home))])
    states = ReferenceStates.of([home[at] for at in scaling], [home[at] for at in kept], seed=seed)
    if states is None:
        raise SystemExit("Too few answers of home have a hidden state.")
    ours = iter(random.permutation(left))
    theirs = iter(random.permutation(len(foreign)))
    test = TwoSampleTest(states.values, f"run {seed}")
    since = 0  # of home's own traffic all answers count
    for is_late, source, at in _stream(shift, random, ours, theirs, late=len(left) // 2):
        answer = home[at] if source == "home" else foreign[at]
        test.add(states.projected(answer.hidden))
        since += not is_late
        if float(test.highest) >= LIMIT:
            return since, since
    return None, since


def _stream(
    shift: str, random: np.random.Generator, ours: Iterator[int], theirs: Iterator[int], late: int
) -> Iterator[tuple[bool, str, int]]:
    """Whether it is before the change, the kind, and which answer of it; until a kind has no more."""
    if shift == "none":
        yield from ((False, "home", at) for at in ours)
        return
    if shift == "late":
        yield from ((True, "home", at) for _, at in zip(range(late), ours, strict=False))
    for place in range(10_000):
        is_foreign = random.random() < SHIFTS[shift](place)
        at = next(theirs if is_foreign else ours, None)
        if at is None:
            return
        yield False, "foreign" if is_foreign else "home", at


def _row(home: str, traffic: str, shift: str, runs: Sequence[tuple[int | None, int]]) -> str:
    found = sorted(alarm for alarm, _ in runs if alarm is not None)
    soon = sum(alarm <= ENOUGH for alarm in found)
    shares = [
        # Of all runs: one without an alarm counts as later than any.
        f"{found[place]}" if (place := int(np.ceil(share * len(runs))) - 1) < len(found) else "–"
        for share in (0.5, 0.9)
    ]
    most = max(answers for _, answers in runs)
    cells = [
        home,
        traffic,
        shift,
        f"{most}",
        f"{soon} of {len(runs)}",
        f"{len(found)} of {len(runs)}",
        *shares,
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
