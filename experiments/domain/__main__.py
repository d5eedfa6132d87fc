"""Which differences between an app and a calibration matter?

    python -m experiments.domain HOME.answers.jsonl --output domain

Takes the answers that ``guardrail calibrate`` kept of questions asked one by one. Of all but the last 120,
profiles are made on several splits; the last 120 questions are asked again in other ways (``variants.py``),
and each profile says how sure it is of those answers; with ``--others``, of answers to questions of other
kinds as well. Writes ``domain.md``, and keeps the answers beside it, so that the same command goes on where
it stopped.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.domain.variants import VARIANTS, Variant
from guardrail import LocalModel
from guardrail.calibration.fit import fit_profile
from guardrail.calibration.options import FitOptions, MakingSource, Shares
from guardrail.calibration.profile import Guarantee, Profile
from guardrail.labelling.answering import hidden_state, sampling_for
from guardrail.labelling.answers import AnswerRecord, read_answers
from guardrail.labelling.judges import as_judge
from guardrail.labelling.questions import DEFAULT_DEPTH, parse_questions
from guardrail.metrics.confidence_quality import auroc, ece, ece_if_calibrated
from guardrail.metrics.intervals import measure
from guardrail.models.decoding import GenerationControls, held_to, json_grammar
from guardrail.models.sampling import Sampling
from guardrail.scoring.batches import Encoded
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.score import score_batch
from guardrail.scoring.uncertainty import HiddenState, Observation

SPLITS = 20
BATCH = 16
GUARANTEES = (Guarantee(0.2, 0.95), Guarantee(0.3, 0.95))


def main() -> None:
    """Ask, assess, count, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("answers", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--asked", type=int, default=120, help="questions that are asked in each way")
    parser.add_argument("--only", nargs="*", help="names of variants")
    parser.add_argument("--others", nargs="*", type=Path, default=(), help="kept answers to other questions")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    records = sorted(
        (one for one in read_answers(arguments.answers).records if one.correct is not None),
        key=lambda record: record.digest,
    )
    home, asked = records[: -arguments.asked], records[-arguments.asked :]
    profiles = [_profile(home, seed) for seed in range(SPLITS)]
    model: LocalModel | None = None
    lines = [_HEAD]
    for variant in VARIANTS:
        if arguments.only and variant.name not in arguments.only:
            continue
        kept = arguments.output / f"{variant.name.replace(' ', '-').replace(',', '')}.jsonl"
        if not kept.exists():
            model = model or LocalModel.load(arguments.model)
            _ask(model, variant, asked, home, home[0].provenance.scorer.options(), kept)
        answers = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
        judged = [one for one in answers if one["correct"] is not None]
        states = [HiddenState(DEFAULT_DEPTH, one["mean"], one["last"]) for one in judged]
        observations = [Observation(one["scores"], state) for one, state in zip(judged, states, strict=True)]
        lines.append(_row(variant.name, observations, [one["correct"] for one in judged], profiles))
        print(lines[-1], flush=True)
    for path in arguments.others:
        others = [one for one in read_answers(path).records if one.correct is not None]
        kind, labels = path.name.partition(".")[0], [bool(one.correct) for one in others]
        lines.append(_row(kind, [one.observation for one in others], labels, profiles))
        print(lines[-1], flush=True)
    (arguments.output / "domain.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


_COLUMNS = (
    "asked",
    "right",
    "mean confidence",
    "calibration error (if perfect)",
    "AUROC",
    *(f"{column} {share} %" for share in (20, 30) for column in ("let through at", "wrong at", "broken at")),
)
_HEAD = f"| {' | '.join(_COLUMNS)} |\n|---|{'---:|' * (len(_COLUMNS) - 1)}"


def _profile(home: Sequence[AnswerRecord], seed: int) -> Profile:
    labelled = [answer for record in home if (answer := record.labelled())]
    made = home[0].provenance
    source = MakingSource("home", "", "contains", made.generation)
    options = FitOptions(guarantees=GUARANTEES, seed=seed, shares=Shares(0.4, 0.5, 0.1))
    return fit_profile(labelled, model=made.model, scorer=made.scorer, making=source, options=options).profile


def _ask(
    model: LocalModel,
    variant: Variant,
    asked: Sequence[AnswerRecord],
    home: Sequence[AnswerRecord],
    scoring: ScoringOptions,
    kept: Path,
) -> None:
    judge = as_judge("contains")
    arguments = home[0].provenance.generation
    made = Sampling(max_tokens=arguments["max_tokens"], temperature=arguments["temperature"])
    random = np.random.default_rng(0)
    questions = parse_questions([json.dumps(dict(record.fields)) for record in asked]).usable
    fields = [record.fields for record in home]
    prompts = [
        variant.messages(
            question.text, [fields[at] for at in random.choice(len(fields), size=3, replace=False)]
        )
        for question in questions
    ]
    rows = []
    step = 1 if variant.schema else BATCH
    grammar = json_grammar(variant.schema) if variant.schema else None
    controls = GenerationControls(processor=held_to(grammar)) if grammar else GenerationControls()
    order = sorted(range(len(questions)), key=lambda at: len(str(prompts[at])))
    for start in range(0, len(order), step):
        several = order[start : start + step]
        encoded = [model.encode_prompt(prompts[at]) for at in several]
        sampling = sampling_for(
            variant.sampling(made),
            [Encoded(questions[at], one, None) for at, one in zip(several, encoded, strict=True)],
        )
        traces = model.generate_encoded(encoded, sampling, depths=(DEFAULT_DEPTH,), controls=controls)
        states = [hidden_state(trace, DEFAULT_DEPTH) for trace in traces]
        for at, trace, state, scores in zip(
            several, traces, states, score_batch(model, traces, scoring), strict=True
        ):
            question = questions[at]
            ruling = judge(question.text, trace.text, question.accepted)
            rows.append(
                {
                    "question": question.text,
                    "response": trace.text,
                    "correct": ruling.correct,
                    "scores": {**scores.scores(), "tokens": float(trace.token_counts["completion_tokens"])},
                    "prompt_tokens": trace.token_counts["prompt_tokens"],
                    "mean": [round(x, 5) for x in state.mean] if state else None,
                    "last": [round(x, 5) for x in state.last] if state else None,
                }
            )
        print(f"{variant.name}: {len(rows)} of {len(questions)}", flush=True)
    kept.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _row(
    name: str, observations: Sequence[Observation], labels: Sequence[bool], profiles: Sequence[Profile]
) -> str:
    correct = np.array(labels)
    assessed = [[profile.assess(one) for one in observations] for profile in profiles]
    confidences = np.array([[one.confidence for one in row] for row in assessed])
    scores = np.array([[one.confidence_score for one in row] for row in assessed])
    errors = [ece(row, correct) for row in confidences]
    perfect = [ece_if_calibrated(row).value or 0.0 for row in confidences[:5]]
    ranked = measure(auroc, scores[0], correct)
    cells = []
    for guarantee in GUARANTEES:
        through = np.array([[guarantee in one.guarantees for one in row] for row in assessed])
        certified = through[through.any(axis=1)]
        wrong = [(~correct[row]).mean() for row in certified]
        broken = sum(share > guarantee.max_error for share in wrong)
        cells += [
            f"{100 * through.mean():.0f} %",
            f"{100 * (through & ~correct).sum() / max(1, through.sum()):.0f} %",
            f"{broken} of {len(certified)}",
        ]
    ranks = np.mean([auroc(row, correct) for row in scores])
    cells = [
        name,
        f"{100 * correct.mean():.0f} % of {len(correct)}",
        f"{100 * confidences.mean():.0f} %",
        f"{np.mean(errors):.3f} ({np.mean(perfect):.3f})",
        f"{100 * ranks:.1f} ({100 * (ranked.low or 0):.0f} to {100 * (ranked.high or 0):.0f})",
        *cells,
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
