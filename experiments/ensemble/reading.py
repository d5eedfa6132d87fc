"""What one pass tells of each labelled answer: scores in several ways, hidden states at several depths."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from guardrail import LocalModel, ScoringOptions, score_batch
from guardrail.labelling.answers import AnswerRecord, read_answers
from guardrail.models.prompt import encode_prompt

__all__ = ["DEPTHS", "WAYS", "Features", "features_of"]

# Fractions of the layers at which hidden states are kept.
DEPTHS = (1 / 3, 1 / 2, 2 / 3, 5 / 6)
# What is the default for SmolLM2, and the rule's t* with the mean of the public code.
WAYS = {
    "−5, sum": ScoringOptions(semantic_token=-5, reduction="sum"),
    "−4, mean": ScoringOptions(semantic_token=-4, reduction="mean"),
}
_SEVERAL = 16


@dataclass(frozen=True, slots=True)
class Features:
    """A set of answers as arrays, in the order of its file.

    Attributes:
        name: Of the set.
        correct: Whether each is right, (n,).
        scores: Values of each score by way of scoring and name, each (n,).
        mean: Hidden states, mean over the response, (n, depths, d).
        last: Hidden states where the last token was predicted, (n, depths, d).
    """

    name: str
    correct: NDArray[np.bool_]
    scores: dict[str, dict[str, NDArray[np.float64]]]
    mean: NDArray[np.float32]
    last: NDArray[np.float32]

    def take(self, rows: NDArray[np.int64]) -> "Features":
        """Those of some answers."""
        scores = {
            way: {name: values[rows] for name, values in named.items()} for way, named in self.scores.items()
        }
        return Features(self.name, self.correct[rows], scores, self.mean[rows], self.last[rows])


def features_of(path: Path, cache: Path, open_model: Callable[[], LocalModel]) -> Features:
    """Read the answers of a file again, or take what was kept of the last time.

    Args:
        path: A file of answers, as ``guardrail calibrate`` writes it; those without a label are left out.
        cache: Folder of what was read.
        open_model: Opens the model that gave the answers.
    """
    kept = cache / f"{path.name.split('.')[0]}.npz"
    if not kept.exists():
        records = [record for record in read_answers(path).records if record.correct is not None]
        arrays = _read(open_model(), records)
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(kept, allow_pickle=False, **arrays)
    with np.load(kept, allow_pickle=False) as arrays:
        scores: dict[str, dict[str, NDArray[np.float64]]] = {way: {} for way in WAYS}
        for key in arrays.files:
            if ":" in key:
                way, name = key.split(":")
                scores[way][name] = arrays[key]
        return Features(kept.stem, arrays["correct"], scores, arrays["mean"], arrays["last"])


def _read(model: LocalModel, records: Sequence[AnswerRecord]) -> dict[str, NDArray[np.generic]]:
    prompts = [encode_prompt(model.tokenizer, record.question) for record in records]
    responses = [model.encode_response(record.response, _ending(record)) for record in records]
    scores: list[dict[str, float]] = [{} for _ in records]
    mean, last = [], []
    by_length = np.argsort([len(response) for response in responses], kind="stable")
    for start in range(0, len(records), _SEVERAL):
        rows = by_length[start : start + _SEVERAL]
        traces = model.read_encoded(
            [prompts[row] for row in rows], [responses[row] for row in rows], depths=DEPTHS
        )
        for way, options in WAYS.items():
            is_last = way == [*WAYS][-1]
            for row, scored in zip(rows, score_batch(model, traces, options, release=is_last), strict=True):
                values = {**scored.scores(), "tokens": float(len(responses[row]))}
                scores[row] |= {f"{way}:{name}": value for name, value in values.items()}
        for trace in traces:
            layers = sorted(trace.hidden)
            mean.append([trace.hidden[layer].mean.tolist() for layer in layers])
            last.append([trace.hidden[layer].last.tolist() for layer in layers])
        print(f"read {min(start + _SEVERAL, len(records))} of {len(records)}", flush=True)
    back = np.argsort(by_length)
    columns = {name: np.array([values[name] for values in scores]) for name in scores[0]}
    return {
        "correct": np.array([record.correct for record in records], dtype=bool),
        "mean": np.array(mean, dtype=np.float32)[back],
        "last": np.array(last, dtype=np.float32)[back],
        **columns,
    }


def _ending(record: AnswerRecord) -> "str | None":
    if record.finish_reason is not None:
        return record.finish_reason
    cut = record.provenance.generation.get("max_tokens")
    return "length" if cut and record.usage["completion_tokens"] >= int(cut) else "stop"
