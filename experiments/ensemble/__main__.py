"""What should a confidence be made of?

    python -m experiments.ensemble ANSWERS.jsonl ANSWERS.jsonl … --output FOLDER

Takes files of answers that ``guardrail calibrate`` wrote, all by one model. The first 500 answers of each are
fitted on and chosen by, the rest is reported on: fitted on the same set, and on each other one. Writes
``results.md`` and ``results.json``.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.ensemble.candidates import SINGLE, SUMS, Candidate
from experiments.ensemble.comparing import Result, by_size, choosing, halves, reporting
from experiments.ensemble.default import calibrated
from experiments.ensemble.reading import WAYS, Features, features_of
from guardrail import LocalModel

SIZES = (100, 200, 400)


def main() -> None:
    """Read, fit, compare, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("answers", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--model", default="smollm2-135m")
    arguments = parser.parse_args()
    sets = [
        features_of(path, arguments.output / "read", lambda: LocalModel.load(arguments.model))
        for path in arguments.answers
    ]
    first, rest = zip(*map(halves, sets), strict=True)
    learned = [
        *SUMS,
        *(calibrated(way=way) for way in WAYS),
        *(calibrated(inputs) for inputs in ("signals", "probe")),
    ]
    rows = {}
    for candidate in [*SINGLE, *learned]:
        rows[candidate.name] = (choosing(candidate, first), reporting(candidate, first, rest))
        print(candidate.name, flush=True)
    sizes = {
        candidate.name: {
            one.name: by_size(candidate, one, other, SIZES) for one, other in zip(first, rest, strict=True)
        }
        for candidate in learned
        if candidate.name in ("signals", "probe 24 of both at 2/3", "probe and signals", calibrated().name)
    }
    best = max((one.name for one in SINGLE), key=lambda name: _mean(rows[name][0]))
    tables = [_described(first, rest), _table(rows, [one.name for one in rest], SINGLE)]
    tables += [_table(rows, [one.name for one in rest], learned), _gains(rows, learned, best), _sizes(sizes)]
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "results.md").write_text("\n\n".join(tables) + "\n", encoding="utf-8")
    plain = {
        name: {
            part: [
                {"fitted": one.fitted, "tested": one.tested, "auroc": one.auroc, "n": len(one.correct)}
                for one in found
            ]
            for part, found in zip(("choosing", "reporting"), both, strict=True)
        }
        for name, both in rows.items()
    }
    (arguments.output / "results.json").write_text(json.dumps({"auroc": plain, "sizes": sizes}, indent=1))
    print((arguments.output / "results.md").read_text())


def _described(first: Sequence[Features], rest: Sequence[Features]) -> str:
    lines = [
        f"- {one.name}: {len(one.correct)} to fit and choose by ({one.correct.mean():.0%} right), "
        f"{len(other.correct)} to report on ({other.correct.mean():.0%} right)"
        for one, other in zip(first, rest, strict=True)
    ]
    return "\n".join(lines)


def _table(rows: Mapping[str, tuple], names: Sequence[str], candidates: Sequence[Candidate]) -> str:
    """AUROC on the rest: of each set, fitted on the same and, mean over them, on the others."""
    learns = candidates[0].learns
    heads = (
        [f"{name}, fitted on {which}" for name in names for which in ("it", "another")] if learns else names
    )
    lines = [
        f"| confidence | chosen by | {' | '.join(heads)} | mean |",
        "|---|---:|" + "---:|" * (len(heads) + 1),
    ]
    for candidate in candidates:
        by, found = rows[candidate.name]
        cells = []
        for name in names:
            here = [one for one in found if one.tested == name]
            if learns:
                cells.append(_percent([one for one in here if one.fitted == name]))
                cells.append(_percent([one for one in here if one.fitted != name]))
            else:
                cells.append(_percent(here))
        lines.append(
            f"| {candidate.name} | {100 * _mean(by):.1f} | {' | '.join(cells)} | {100 * _mean(found):.1f} |"
        )
    return "\n".join(lines)


def _gains(rows: Mapping[str, tuple], candidates: Sequence[Candidate], best: str) -> str:
    """How far above the single score that was best on the first answers, with a paired bootstrap interval."""
    single = {one.tested: one for one in rows[best][1]}
    lines = [f"| above {best} | same set | another set |", "|---|---:|---:|"]
    for candidate in candidates:
        found = rows[candidate.name][1]
        cells = []
        for part in (
            [one for one in found if one.fitted == one.tested],
            [one for one in found if one.fitted != one.tested],
        ):
            drawn = np.mean([one.above(single[one.tested]) for one in part], axis=0)
            gain = np.mean([one.auroc - single[one.tested].auroc for one in part])
            low, high = np.quantile(drawn, (0.025, 0.975))
            cells.append(f"{100 * gain:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})")
        lines.append(f"| {candidate.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _sizes(sizes: Mapping[str, Mapping[str, Mapping[int, float]]]) -> str:
    lines = ["| fitted on | " + " | ".join(sizes) + " |", "|---|" + "---:|" * len(sizes)]
    for size in SIZES:
        means = [np.mean([found[size] for found in of_set.values()]) for of_set in sizes.values()]
        lines.append(f"| {size} | " + " | ".join(f"{100 * value:.1f}" for value in means) + " |")
    return "\n".join(lines)


def _percent(found: Sequence[Result]) -> str:
    return f"{100 * _mean(found):.1f}"


def _mean(found: Sequence[Result]) -> float:
    return float(np.mean([one.auroc for one in found]))


if __name__ == "__main__":
    main()
