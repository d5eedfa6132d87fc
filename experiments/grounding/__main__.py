"""Does it tell right answers from wrong ones how much the document in the prompt moved the answer?

    python -m experiments.grounding ANSWERS.jsonl … --output FOLDER

Takes files of answers that ``guardrail calibrate`` kept, of questions with a document (``context``, or in
the first message) and ``evidence``: ``stated``, ``absent`` or ``contradicted``. Reads each answer without the
document (``--tokens``: and with it again), keeps what it read in ``FOLDER/read``, and writes ``results.md``:

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

from experiments.grounding.candidates import CANDIDATES, NAMED_BEFOREHAND, candidates_of
from experiments.grounding.comparing import PENALTY, Ranking, folds, measured, out_of_fold
from experiments.grounding.reading import Answers, read_file
from guardrail import LocalModel
from guardrail.calibration.features import fit_logistic

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
    parser.add_argument("--tokens", action="store_true", help="read with the document again, for each token")
    arguments = parser.parse_args()
    sets = [
        read_file(
            path, arguments.output / "read", lambda: LocalModel.load(arguments.model), again=arguments.tokens
        )
        for path in arguments.answers
    ]
    lines = []
    for answers in sets:
        ranking = Ranking(answers.correct, answers.groups)
        lines += [*_counts(answers), *_ranking(answers, ranking)]
        for with_probe in (False, True):
            lines += _gains(answers, ranking, with_probe=with_probe)
    lines += _transfer(sets)
    (arguments.output / "results.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def _counts(answers: Answers) -> Iterator[str]:
    mean = CANDIDATES[NAMED_BEFOREHAND](answers)
    documents = len(np.unique(answers.groups))
    yield f"\n## {answers.name}: {len(answers.correct)} answers about {documents} documents\n"
    yield "| evidence | answers | right | mean gain, median (nats a token) |"
    yield "|---|---:|---:|---:|"
    for kind in EVIDENCE:
        here = answers.evidence == kind
        if here.any():
            yield f"| {kind} | {here.sum()} | {answers.correct[here].sum()} | {np.median(mean[here]):.2f} |"
    known = answers.evidence != "contradicted"
    told = Ranking(answers.evidence[known] == "stated", answers.groups[known])
    yield f"\nAUROC of the {NAMED_BEFOREHAND} for telling documents that state the answer from those"
    yield f"that lack it: {measured(told.auroc(mean[known]))}.\n"


def _parts(answers: Answers, ranking: Ranking) -> list[NDArray[np.bool_] | None]:
    """The pairs that the columns of a table are about."""
    same = ranking.same(answers.evidence)
    return [None, same, *(ranking.within(answers.evidence == kind) for kind in EVIDENCE)]


_COLUMNS = ("all", "pairs of one kind of evidence", *EVIDENCE)


def _ranking(answers: Answers, ranking: Ranking) -> Iterator[str]:
    yield f"| AUROC of | {' | '.join(_COLUMNS)} |"
    yield f"|---|{'---:|' * len(_COLUMNS)}"
    scores = {name: -answers.scores[score] for name, score in USUAL.items()}
    scores |= {name: of(answers) for name, of in candidates_of(answers).items()}
    for name, values in scores.items():
        cells = [str(measured(ranking.auroc(values, part))) for part in _parts(answers, ranking)]
        yield f"| {name} | {' | '.join(cells)} |"


def _gains(answers: Answers, ranking: Ranking, *, with_probe: bool) -> Iterator[str]:
    if with_probe and answers.hidden is None:
        return
    divisions = folds(answers.hidden if with_probe else None, answers.correct, answers.groups)
    known = out_of_fold(answers.signals, answers.correct, divisions)
    parts = _parts(answers, ranking)
    base = [ranking.auroc(known, part) for part in parts]
    yield f"\n| all scores{' and a probe' if with_probe else ''}, and | {' | '.join(_COLUMNS)} |"
    yield f"|---|{'---:|' * len(_COLUMNS)}"
    yield f"| nothing else: AUROC | {' | '.join(str(measured(one)) for one in base)} |"
    for name, of in candidates_of(answers).items():
        ours = out_of_fold(np.column_stack([answers.signals, of(answers)]), answers.correct, divisions)
        cells = [
            str(measured(ranking.auroc(ours, part) - before))
            for part, before in zip(parts, base, strict=True)
        ]
        yield f"| {name}: points above | {' | '.join(cells)} |"


def _transfer(sets: Sequence[Answers]) -> Iterator[str]:
    if len(sets) < 2:
        return
    of = CANDIDATES[NAMED_BEFOREHAND]
    columns = ("all scores", f"points above with the {NAMED_BEFOREHAND}", "in pairs of one kind of evidence")
    yield f"\n| fitted on | tested on | {' | '.join(columns)} |"
    yield "|---|---|---:|---:|---:|"
    for fitted, tested in permutations(sets, 2):
        ranking = Ranking(tested.correct, tested.groups)
        pairs = ranking.same(tested.evidence)
        known = _predicted(fitted, fitted.signals, tested.signals)
        both = [np.column_stack([one.signals, of(one)]) for one in (fitted, tested)]
        ours = _predicted(fitted, *both)
        cells = (
            ranking.auroc(known),
            ranking.auroc(ours) - ranking.auroc(known),
            ranking.auroc(ours, pairs) - ranking.auroc(known, pairs),
        )
        yield f"| {fitted.name} | {tested.name} | {' | '.join(str(measured(one)) for one in cells)} |"


def _predicted(fitted: Answers, seen: FloatArray, unseen: FloatArray) -> FloatArray:
    model = fit_logistic(seen, fitted.correct, penalty=PENALTY)
    return model.intercept + unseen @ model.weights


if __name__ == "__main__":
    main()
