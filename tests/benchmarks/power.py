"""How many answers a certified threshold lets through, by several methods, on the same certify labels.

    python tests/benchmarks/power.py [--draws 300] [--out power.md]

Confidence c is uniform on (0, 1); each trial has its own P(correct | c). Coverage is the mean share of
answers let through, computed from the distribution; an infeasible draw counts 0. Violations are draws in
which more than the promised share of the answers let through is wrong, again by the distribution. Every
method gets the same n certify labels of the same draws. What else each gets:

- oracle: the distribution itself.
- MAPIE: nothing (BinaryClassificationController, precision, Bonferroni–Holm, its 100 thresholds).
- one start: nothing. Fixed sequence over the scores from strict to lax, begun at the least n.
- four starts: nothing. The same from four numbers of accepted answers, each with a quarter of δ.
- no fit part: nothing. certify() without a plan.
- fit n/2, fit n: certify() with a plan made on n/2 or n further labels that no other method sees.
"""

import argparse
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mapie.risk_control import BinaryClassificationController
from scipy.stats import binom

from guardrail.calibration.binomial_bounds import fewest_needed
from guardrail.calibration.certify import certify
from guardrail.calibration.profile import Guarantee
from guardrail.calibration.threshold_search import plan

GUARANTEE = Guarantee(0.10, 0.90)
SIZES = (300, 600, 1500)
TRIALS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "P = √c": np.sqrt,
    "good: P = σ(9c − 4.05)": lambda c: 1 / (1 + np.exp(-9 * (c - 0.45))),
    "weak: P = 0.62 + 0.33c": lambda c: 0.62 + 0.33 * c,
}


class Draw(NamedTuple):
    """One certify part, and the further labels that only some methods see."""

    scores: np.ndarray
    correct: np.ndarray
    fit_scores: np.ndarray
    fit_correct: np.ndarray


def oracle(likely: Callable[[np.ndarray], np.ndarray]) -> float:
    """Largest share of answers that can be let through."""
    shares = (np.arange(200_000) + 0.5) / 200_000
    errors = np.cumsum(1 - likely(1 - shares)) / np.arange(1, 200_001)
    kept = np.flatnonzero(errors <= GUARANTEE.max_error)
    return float(shares[kept[-1]]) if len(kept) else 0.0


def with_mapie(draw: Draw) -> float | None:
    """MAPIE's own controller."""
    controller = BinaryClassificationController(
        predict_function=lambda x: np.column_stack([1 - np.asarray(x).ravel(), np.asarray(x).ravel()]),
        risk="precision",
        target_level=1 - GUARANTEE.max_error,
        confidence_level=GUARANTEE.confidence,
        fwer_method="bonferroni_holm",
    )
    with warnings.catch_warnings():
        # It warns where it finds nothing.
        warnings.simplefilter("ignore")
        controller.calibrate(draw.scores.reshape(-1, 1), draw.correct.astype(int))
    valid = np.asarray(controller.valid_predict_params, float).ravel()
    return float(valid.min()) if len(valid) else None


def fixed_sequences(draw: Draw, starts: tuple[int, ...], level: float) -> float | None:
    """Sequences from strict to lax over the certify part's own scores, each at this level."""
    order = np.argsort(-draw.scores)
    scores, errors = draw.scores[order], np.cumsum(~draw.correct[order])
    counts = np.arange(1, len(scores) + 1)
    passed = binom.cdf(errors, counts, GUARANTEE.max_error) <= level
    found = [None]
    for start in starts:
        failed = np.flatnonzero(~passed[start - 1 :])
        end = start - 1 + (failed[0] if len(failed) else len(scores) - start + 1)
        if end >= start:
            found.append(float(scores[end - 1]))
    return min((one for one in found if one is not None), default=None)


def one_start(draw: Draw) -> float | None:
    """Begun where the least n is reached."""
    return fixed_sequences(draw, (fewest_needed(GUARANTEE),), 1 - GUARANTEE.confidence)


def four_starts(draw: Draw) -> float | None:
    """Begun at the least n of a quarter of δ, and at 10, 20 and 30 % of the answers."""
    level = (1 - GUARANTEE.confidence) / 4
    n = len(draw.scores)
    least = fewest_needed(Guarantee(GUARANTEE.max_error, 1 - level))
    return fixed_sequences(draw, tuple(sorted({least, *(max(least, n * k // 10) for k in (1, 2, 3))})), level)


def without_fit(draw: Draw) -> float | None:
    """Ours, without a plan."""
    return certify(draw.scores, draw.correct, GUARANTEE).threshold


def with_fit(draw: Draw, share: float) -> float | None:
    """Ours, with a plan made on share · n further labels."""
    n = len(draw.scores)
    size = int(share * n)
    searched = plan(draw.fit_scores[:size], draw.fit_correct[:size])
    return certify(draw.scores, draw.correct, GUARANTEE, searched).threshold


METHODS: Mapping[str, Callable[[Draw], float | None]] = {
    "MAPIE": with_mapie,
    "one start": one_start,
    "four starts": four_starts,
    "no fit part": without_fit,
    "fit n/2": lambda draw: with_fit(draw, 0.5),
    "fit n": lambda draw: with_fit(draw, 1.0),
}
NAMES = {
    "no fit part": "**ours, no fit part**",
    "fit n/2": "**ours, fit part of n/2**",
    "fit n": "**ours, fit part of n**",
}


class Measured(NamedTuple):
    """Each figure a share of 1, with the standard error of the coverage."""

    coverage: float
    error: float
    infeasible: float
    violated: float


def measure(
    likely: Callable[[np.ndarray], np.ndarray], n: int, draws: int, methods: Mapping[str, Callable] = METHODS
) -> dict[str, Measured]:
    """Run every method on the same draws."""
    best, rng = oracle(likely), np.random.default_rng(20_240_501)
    shares: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(draws):
        scores, fit_scores = rng.random(n), rng.random(n)
        draw = Draw(scores, rng.random(n) < likely(scores), fit_scores, rng.random(n) < likely(fit_scores))
        for name, method in methods.items():
            threshold = method(draw)
            shares[name].append(0.0 if threshold is None else 1 - threshold)
    return {name: _measured(np.array(values), best) for name, values in shares.items()}


def _measured(shares: np.ndarray, best: float) -> Measured:
    return Measured(
        coverage=float(shares.mean()),
        error=float(shares.std() / np.sqrt(len(shares))),
        infeasible=float((shares == 0).mean()),
        violated=float((shares > best + 1e-5).mean()),
    )


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    lines = [
        "| trial (oracle) | n | method | coverage | infeasible | violations |",
        "|---|--:|---|--:|--:|--:|",
    ]
    print("\n".join(lines), flush=True)
    for trial, likely in TRIALS.items():
        for n in SIZES:
            for name, got in measure(likely, n, args.draws).items():
                lines.append(
                    f"| {trial} ({oracle(likely):.0%}) | {n} | {NAMES.get(name, name)} | "
                    f"{100 * got.coverage:.1f} ± {196 * got.error:.1f} % | {got.infeasible:.0%} | "
                    f"{got.violated:.1%} |"
                )
                print(lines[-1], flush=True)
    if args.out:
        args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
