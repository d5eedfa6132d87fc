"""What becomes of a confidence on a kind of questions that it was not fitted on?

    python -m experiments.across_kinds ANSWERS.jsonl ANSWERS.jsonl … --output across-kinds

Takes files of answers that ``guardrail calibrate`` kept, one for each kind of questions, all by one model.
Every kind is ranked by what was fitted on all the others (away), and by what was fitted on four fifths of
all kinds, its own included (at home). Compares designs by that, then makes profiles in the way of
``guardrail calibrate`` and looks at their confidence: as it is, and adapted by 30 labels. Kinds named by
``--confirm`` have a table of their own and take no part in the others. Writes ``across-kinds.md``.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.across_kinds.confidences import (
    ADAPTED_BY,
    Assessed,
    Judged,
    adapted,
    alone,
    assess,
    at_home,
    made_of,
)
from experiments.across_kinds.designs import DESIGNS, SINGLE, Columns, Design, columns_of
from experiments.across_kinds.reading import FOLDS, Kind, read_kind
from guardrail.metrics.confidence_quality import auroc, brier, brier_base_rate, ece, ece_if_calibrated

FloatArray = NDArray[np.float64]
# The single score that designs are compared with, named before any of them was tried.
BASE = "max_entropy"
_RESAMPLES = 2000


def main() -> None:
    """Read, fit, compare, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("answers", nargs="+", type=Path)
    parser.add_argument("--confirm", nargs="*", type=Path, default=[])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--designs", type=int, default=len(DESIGNS), help="how many designs are compared")
    arguments = parser.parse_args()
    kinds = [read_kind(path) for path in arguments.answers]
    tables = [_described(kinds), _designs(kinds, DESIGNS[: arguments.designs]), _confidences(kinds, kinds)]
    tables.append(_alone(kinds))
    if arguments.confirm:
        confirming = [read_kind(path) for path in arguments.confirm]
        tables += [
            _described(confirming),
            _confidences(confirming, [*kinds, *confirming]),
            _alone(confirming),
        ]
    arguments.output.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(tables) + "\n"
    (arguments.output / "across-kinds.md").write_text(text, encoding="utf-8")
    print(text)


def _described(kinds: Sequence[Kind]) -> str:
    lines = ["| kind | answers | right | largest entropy | HybridGrad |", "|---|---:|---:|---:|---:|"]
    for one in kinds:
        scores = [100 * float(auroc(-one.score(name), one.correct)) for name in (BASE, "hybridgrad")]
        shown = " | ".join(f"{score:.1f}" for score in scores)
        lines.append(f"| {one.name} | {len(one.answers)} | {one.correct.mean():.0%} | {shown} |")
    return "\n".join(lines)


def _designs(kinds: Sequence[Kind], designs: Sequence[Design]) -> str:
    """AUROC above the largest entropy: mean over kinds, interval over kinds and answers, worst kind."""
    base = [-one.score(BASE) for one in kinds]
    right = [one.correct for one in kinds]
    lines = [f"| AUROC points above {BASE} | at home | away | worst kind away |", "|---|---:|---:|---:|"]
    for name in SINGLE:
        sign = 1.0 if name == "min_token_probability" else -1.0
        lines.append(_gain(name, None, [sign * one.score(name) for one in kinds], base, right))
    columns = [columns_of(one) for one in kinds]
    for design in designs:
        lines.append(_gain(design.name, _home_of(design, columns), _away_of(design, columns), base, right))
        print(lines[-1], flush=True)
    return "\n".join(lines)


def _gain(
    name: str,
    home: Sequence[FloatArray] | None,
    elsewhere: Sequence[FloatArray],
    base: Sequence[FloatArray],
    right: Sequence[NDArray[np.bool_]],
) -> str:
    gains = [100 * float(auroc(a, r) - auroc(b, r)) for a, b, r in zip(elsewhere, base, right, strict=True)]
    cells = ["" if home is None else _interval(home, base, right), _interval(elsewhere, base, right)]
    return f"| {name} | {' | '.join(cells)} | {min(gains):+.1f} |"


def _interval(
    ours: Sequence[FloatArray], base: Sequence[FloatArray], right: Sequence[NDArray[np.bool_]]
) -> str:
    """Mean gain with a bootstrap over kinds, and over the answers of each."""
    mean = np.mean([auroc(a, r) - auroc(b, r) for a, b, r in zip(ours, base, right, strict=True)])
    drawn = _drawn(ours, base, right)
    random = np.random.default_rng(1)
    chosen = random.integers(len(ours), size=(_RESAMPLES, len(ours)))
    means = drawn[chosen, np.arange(_RESAMPLES)[:, None]].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{100 * mean:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _drawn(
    ours: Sequence[FloatArray], base: Sequence[FloatArray], right: Sequence[NDArray[np.bool_]]
) -> FloatArray:
    """The gain in each sample of a kind's answers, (kinds, samples)."""
    random = np.random.default_rng(0)
    gains = np.empty((len(ours), _RESAMPLES))
    for at, (a, b, r) in enumerate(zip(ours, base, right, strict=True)):
        rows = random.integers(len(r), size=(_RESAMPLES, len(r)))
        gains[at] = auroc(a[rows], r[rows]) - auroc(b[rows], r[rows])
    return gains


def _away_of(design: Design, columns: Sequence[Columns]) -> list[FloatArray]:
    return [design.fit([*columns[:at], *columns[at + 1 :]])(one) for at, one in enumerate(columns)]


def _home_of(design: Design, columns: Sequence[Columns]) -> list[FloatArray]:
    found = [np.empty(len(one.correct)) for one in columns]
    for fold in range(FOLDS):
        ranked = design.fit([one.take(one.fold != fold) for one in columns])
        for values, one in zip(found, columns, strict=True):
            values[one.fold == fold] = ranked(one.take(one.fold == fold))
    return found


def _confidences(kinds: Sequence[Kind], every: Sequence[Kind]) -> str:
    """What profiles say of each kind: fitted on all of ``every``, and on all but the kind itself."""
    home = at_home(kinds, every)
    profiles = [made_of([other for other in every if other.name != one.name]) for one in kinds]
    elsewhere = [assess(profile, one.answers) for profile, one in zip(profiles, kinds, strict=True)]
    lines = [
        f"| kind | n | home: above {BASE} | calibration error (if perfect) | Brier (base rate) "
        f"| away: above {BASE} | calibration error (if perfect) | with {ADAPTED_BY} labels (if perfect) "
        "| Brier (base rate) |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    told = [adapted(profile, one) for profile, one in zip(profiles, kinds, strict=True)]
    for one, here, there, by_few in zip(kinds, home, elsewhere, told, strict=True):
        cells = [
            _one_interval(here.score, one),
            _error(here),
            _brier(here),
            _one_interval(there.score, one),
            _error(there),
            _mean_error(by_few),
            f"{np.mean([brier(*pair) for pair in by_few]):.3f} "
            f"({np.mean([brier_base_rate(*pair) for pair in by_few]):.3f})",
        ]
        lines.append(f"| {one.name} | {len(one.answers)} | {' | '.join(cells)} |")
    base, right = [-one.score(BASE) for one in kinds], [one.correct for one in kinds]
    pooled = [_together(home), _together(elsewhere)]
    together = [Judged(*map(np.concatenate, zip(*draw, strict=True))) for draw in zip(*told, strict=True)]
    cells = [
        _interval([one.score for one in home], base, right),
        _error(pooled[0]),
        _brier(pooled[0]),
        _interval([one.score for one in elsewhere], base, right),
        _error(pooled[1]),
        _mean_error(together),
        f"{np.mean([brier(*pair) for pair in together]):.3f} "
        f"({np.mean([brier_base_rate(*pair) for pair in together]):.3f})",
    ]
    lines.append(f"| **all** | {sum(len(one.answers) for one in kinds)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _alone(kinds: Sequence[Kind]) -> str:
    """What profiles say of each kind that were made of its other folds alone, as a user makes one."""
    found = [alone(one) for one in kinds]
    lines = [
        f"| kind, by a profile of it alone | n | above {BASE} | calibration error (if perfect) "
        "| Brier (base rate) |",
        "|---|---:|---:|---:|---:|",
    ]
    for one, told in zip(kinds, found, strict=True):
        cells = [_one_interval(told.score, one), _error(told), _brier(told)]
        lines.append(f"| {one.name} | {len(one.answers)} | {' | '.join(cells)} |")
    base, right = [-one.score(BASE) for one in kinds], [one.correct for one in kinds]
    pooled = _together(found)
    cells = [_interval([one.score for one in found], base, right), _error(pooled), _brier(pooled)]
    lines.append(f"| **all** | {len(pooled.correct)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _one_interval(ours: FloatArray, kind: Kind) -> str:
    base = -kind.score(BASE)
    gain = auroc(ours, kind.correct) - auroc(base, kind.correct)
    low, high = np.quantile(_drawn([ours], [base], [kind.correct])[0], (0.025, 0.975))
    return f"{100 * gain:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _together(found: Sequence[Assessed]) -> Assessed:
    return Assessed(*map(np.concatenate, zip(*found, strict=True)))


def _error(found: Assessed) -> str:
    perfect = ece_if_calibrated(found.confidence).value
    return f"{ece(found.confidence, found.correct):.3f} ({perfect:.3f})"


def _mean_error(draws: Sequence[Judged]) -> str:
    errors = [ece(*pair) for pair in draws]
    # What chance alone shows is nearly the same in every draw.
    perfect = ece_if_calibrated(draws[0].confidence).value
    return f"{np.mean(errors):.3f} ({perfect:.3f})"


def _brier(found: Assessed) -> str:
    pair = found.confidence, found.correct
    return f"{brier(*pair):.3f} ({brier_base_rate(*pair):.3f})"


if __name__ == "__main__":
    main()
