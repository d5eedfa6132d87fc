"""Does calibration keep its promises on a model's own answers? Splits of a file of labelled answers.

    python tests/benchmarks/real_scores.py answers.jsonl --target-error 0.2 --target-error 0.3

Two tables. *Probabilities*: profiles fitted on many splits, each reported on answers that it never saw.
*Guarantee*: half of the answers stand for all traffic, so that the error of what is let through is known
exactly; a profile is fitted on the other half, and thresholds are certified on draws with replacement from
the first. The share of draws whose threshold lets through more errors than promised must be at most δ.
"""

import argparse
from pathlib import Path
from statistics import mean

import numpy as np

from guardrail.calibration.certify import certify
from guardrail.calibration.fit import Fitted, fit_profile
from guardrail.calibration.options import FitOptions, MakingSource, Shares
from guardrail.calibration.profile import Guarantee
from guardrail.calibration.threshold_search import plan
from guardrail.labelling.answers import read_answers

FIGURES = ("auroc", "ece", "ece_if_calibrated", "brier", "brier_base_rate")


def fit(answers, maker, shares, seed, inputs="auto") -> Fitted:
    source = MakingSource("answers", "", "judge")
    options = FitOptions(inputs=inputs, seed=seed, shares=shares)
    return fit_profile(answers, model=maker.model, scorer=maker.scorer, making=source, options=options)


def probabilities(answers, maker, splits, held_out):
    share = held_out / len(answers)
    shares = Shares((1 - share) * 0.8, (1 - share) * 0.2, share)
    for inputs in ("auto", "hybridgrad", "signals", "probe"):
        profiles = [fit(answers, maker, shares, seed, inputs).profile for seed in range(splits)]
        found = [[profile.report[name]["value"] for name in FIGURES] for profile in profiles]
        values = "  ".join(
            f"{name} {mean(column):.3f} (worst {max(column):.3f})"
            for name, column in zip(FIGURES, zip(*found, strict=True), strict=True)
        )
        print(f"  {inputs:10s} n={profiles[0].report['n']}  {values}")


def guarantee(answers, maker, wanted, splits, draws, size):
    broken = {one: [] for one in wanted}
    let_through = {one: [] for one in wanted}
    for seed in range(splits):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(answers))
        fitting = [answers[at] for at in order[: len(order) // 2]]
        traffic = [answers[at] for at in order[len(order) // 2 :]]
        fitted = fit(fitting, maker, Shares(0.5, 0.1, 0.4), seed)
        model = fitted.profile.confidence_model
        scores = np.array([model.score(answer.observation) for answer in traffic])
        correct = np.array([answer.correct for answer in traffic])
        for one in wanted:
            search = plan(fitted.held_out.scores, fitted.held_out.correct).search(one, size)
            for _ in range(draws):
                drawn = rng.integers(len(traffic), size=size)
                certified = certify(scores[drawn].tolist(), correct[drawn].tolist(), one, search)
                accepted = scores >= (np.inf if certified.threshold is None else certified.threshold)
                let_through[one].append(float(accepted.mean()))
                is_broken = accepted.any() and 1 - correct[accepted].mean() > one.max_error
                broken[one].append(float(is_broken))
    for one in wanted:
        n = len(broken[one])
        print(
            f"  {one}: broken in {mean(broken[one]):.1%} of {n:,} draws of {size}, lets through "
            f"{mean(let_through[one]):.1%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--target-error", type=float, action="append")
    parser.add_argument("--confidence", type=float, default=0.9)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--size", type=int, default=300)
    parser.add_argument("--held-out", type=int, default=400)
    given = parser.parse_args()
    records = read_answers(given.answers).records
    answers = [answer for record in records if (answer := record.labelled())]
    right = mean(answer.correct for answer in answers)
    made = records[0].provenance
    print(f"{given.answers.name}: {len(answers)} answers of {made.model.name}, {right:.1%} right")
    print(f"Probabilities: means over {given.splits} splits")
    probabilities(answers, made, given.splits, given.held_out)
    print("Guarantee")
    wanted = [Guarantee(error, given.confidence) for error in given.target_error or (0.1, 0.2, 0.3)]
    guarantee(answers, records[0].provenance, wanted, given.splits, given.draws, given.size)


if __name__ == "__main__":
    main()
