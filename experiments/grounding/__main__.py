"""Does it tell right answers from wrong ones how much the document in the prompt moved the answer?

    python -m experiments.grounding ANSWERS.jsonl … --output FOLDER

Takes files of answers that ``guardrail calibrate`` kept, of questions with a document (``context``, or in the
first message) and ``evidence``: ``stated``, ``absent`` or ``contradicted``. Reads each answer with the document
in the prompt and without it, keeps what it read in ``FOLDER/read``, and writes ``results.md``:

- AUROC of each candidate and of the usual scores, overall, within each kind of evidence, and over pairs of a
  right and a wrong answer of *one* kind of evidence. A score that only tells a document with the answer from
  one without it looks good overall, and is at 50 there;
- what a candidate adds to a logistic regression on all scores, and to one with a probe of hidden states too:
  five folds by document, paired difference with its interval over documents; and from one file to the others.

What is claimed is claimed of the mean gain, which was named before anything was read.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.grounding.candidates import CANDIDATES, NAMED_BEFOREHAND
from experiments.grounding.comparing import PENALTY, auroc_within, difference, folds, measured, out_of_fold
from experiments.grounding.reading import Answers, read_both
from guardrail import LocalModel
from guardrail.calibration.features import fit_logistic
from guardrail.metrics.confidence_quality import auroc

FloatArray = NDArray[np.float64]
EVIDENCE = ("stated", "absent", "contradicted")
# Lower is surer.
USUAL = {"Largest entropy": "max_entropy", "HybridGrad": "hybridgrad", "Perplexity": "perplexity"}


def main() -> None:
    """Read, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("answers", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--model", default="smollm2-135m")
    arguments = parser.parse_args()
    sets = [
        read_both(path, arguments.output / "read", lambda: LocalModel.load(arguments.model))
        for path in arguments.answers
    ]
    lines = []
    for answers in sets:
        lines += [*_counts(answers), *_ranking(answers)]
        lines += [*_gains(answers, with_probe=False), *_gains(answers, with_probe=True)]
    lines += _transfer(sets)
    (arguments.output / "results.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def _counts(answers: Answers) -> Iterator[str]:
    counts = [
        f"{name} {int(answers.correct[here].sum())} right of {int(here.sum())}"
        for name in EVIDENCE
        if (here := answers.evidence == name).any()
    ]
    mean = np.nanmean(answers.tokens["given"] - answers.tokens["without"], 1)
    yield f"\n## {answers.name}: {len(answers.correct)} answers\n"
    yield f"{'; '.join(counts)}; {len(np.unique(answers.groups))} documents.\n"
    moved = [
        f"{name} {np.median(mean[answers.evidence == name]):.2f}"
        for name in EVIDENCE
        if (answers.evidence == name).any()
    ]
    told = float(auroc(mean[answers.evidence != "contradicted"], _stated(answers)))
    yield f"Median of the mean gain (nats a token): {'; '.join(moved)}. It tells a document that states the"
    yield f"answer from one that lacks it with AUROC {100 * told:.1f}.\n"


def _stated(answers: Answers) -> NDArray[np.bool_]:
    return answers.evidence[answers.evidence != "contradicted"] == "stated"


def _ranking(answers: Answers) -> Iterator[str]:
    yield f"| AUROC of | all | {' | '.join(EVIDENCE)} | pairs of one kind of evidence |"
    yield f"|---|{'---:|' * (len(EVIDENCE) + 2)}"
    scores = {name: -answers.scores[score] for name, score in USUAL.items()}
    scores |= {name: of(answers) for name, of in CANDIDATES.items()}
    for name, values in scores.items():
        cells = [_measured(answers, values, np.ones(len(values), dtype=bool))]
        cells += [_measured(answers, values, answers.evidence == kind) for kind in EVIDENCE]
        cells.append(
            str(
                measured(
                    lambda rows, values=values: auroc_within(
                        values[rows], answers.correct[rows], answers.evidence[rows]
                    ),
                    answers.groups,
                )
            )
        )
        yield f"| {name} | {' | '.join(cells)} |"


def _measured(answers: Answers, values: FloatArray, here: NDArray[np.bool_]) -> str:
    if not here.any():
        return "–"
    values, correct = values[here], answers.correct[here]
    return str(measured(lambda rows: float(auroc(values[rows], correct[rows])), answers.groups[here]))


def _gains(answers: Answers, *, with_probe: bool) -> Iterator[str]:
    if with_probe and answers.hidden is None:
        return
    divisions = folds(answers.hidden if with_probe else None, answers.correct, answers.groups)
    known = out_of_fold(answers.signals, answers.correct, divisions)
    base = f"all scores{' and a probe' if with_probe else ''}"
    yield f"\n| fitted on {base}, and on | AUROC | above {base} | stated alone | pairs of one kind of evidence |"
    yield "|---|---:|---:|---:|---:|"
    yield f"| nothing else | {_measured(answers, known, np.ones(len(known), dtype=bool))} | | | |"
    stated = answers.evidence == "stated"
    for name, of in CANDIDATES.items():
        ours = out_of_fold(np.column_stack([answers.signals, of(answers)]), answers.correct, divisions)
        cells = (
            _measured(answers, ours, np.ones(len(ours), dtype=bool)),
            difference(ours, known, answers.correct, answers.groups),
            difference(ours[stated], known[stated], answers.correct[stated], answers.groups[stated]),
            difference(ours, known, answers.correct, answers.groups, answers.evidence),
        )
        yield f"| {name} | {' | '.join(map(str, cells))} |"


def _transfer(sets: Sequence[Answers]) -> Iterator[str]:
    if len(sets) < 2:
        return
    yield "\n## From one file to another\n"
    yield f"| fitted on | tested on | all scores | with the {NAMED_BEFOREHAND} | above | pairs of one kind of evidence |"
    yield "|---|---|---:|---:|---:|---:|"
    of = CANDIDATES[NAMED_BEFOREHAND]
    for fitted, tested in permutations(sets, 2):
        known, ours = (
            _predicted(fitted, *columns)
            for columns in (
                (fitted.signals, tested.signals),
                tuple(np.column_stack([one.signals, of(one)]) for one in (fitted, tested)),
            )
        )
        everything = np.ones(len(known), dtype=bool)
        cells = (
            _measured(tested, known, everything),
            _measured(tested, ours, everything),
            difference(ours, known, tested.correct, tested.groups),
            difference(ours, known, tested.correct, tested.groups, tested.evidence),
        )
        yield f"| {fitted.name} | {tested.name} | {' | '.join(map(str, cells))} |"


def _predicted(fitted: Answers, seen: FloatArray, unseen: FloatArray) -> FloatArray:
    model = fit_logistic(seen, fitted.correct, penalty=PENALTY)
    return model.intercept + unseen @ model.weights


if __name__ == "__main__":
    main()
