"""What the model says of each token of an answer, with the document in the prompt and without it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from experiments.grounding.documents import Prompts, prompts_of
from guardrail import LocalModel
from guardrail.calibration.features import read_inputs
from guardrail.labelling.answers import AnswerRecord, read_answers
from guardrail.models.trace import Trace

__all__ = ["Answers", "both_readings", "read_both"]

FloatArray = NDArray[np.float64]
_SEVERAL = 16
_TOKENS = ("given", "without", "entropy_given", "entropy_without", "divergence")


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of a file to questions with a document, n of them.

    Attributes:
        name: Of the file.
        correct: Whether each is right, (n,).
        evidence: Whether its document states the answer, lacks it or contradicts the question, (n,).
        groups: Name of its document, (n,).
        scores: The scores that one pass gives, by name, each (n,).
        signals: The same as a confidence reads them, (n, terms).
        hidden: Hidden states [mean, last] at two thirds, (n, 2d); None where none were kept.
        tokens: For each of its tokens, NaN behind the last, (n, longest): log-probability ``given`` the
            document and ``without`` it, the entropies, and the divergence KL(given ‖ without), in nats.
        seconds: Seconds that all readings with the document took, and those without it, (2,).
    """

    name: str
    correct: NDArray[np.bool_]
    evidence: NDArray[np.str_]
    groups: NDArray[np.str_]
    scores: dict[str, FloatArray]
    signals: FloatArray
    hidden: NDArray[np.float32] | None
    tokens: dict[str, FloatArray]
    seconds: FloatArray


def read_both(path: Path, cache: Path, open_model: Callable[[], LocalModel]) -> Answers:
    """Read the answers of a file twice, or take what was kept of the last time.

    Args:
        path: A file of answers, as ``guardrail calibrate`` writes it. Those without a label or without a
            document are left out.
        cache: Folder of what was read.
        open_model: Opens the model that gave the answers.
    """
    found = [
        (record, prompts)
        for record in read_answers(path).records
        if record.correct is not None and (prompts := prompts_of(record)) is not None
    ]
    records = [record for record, _ in found]
    kept = cache / f"{path.name.split('.')[0]}.npz"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(kept, allow_pickle=False, **_read(open_model(), records, [both for _, both in found]))
    with np.load(kept, allow_pickle=False) as arrays:
        tokens = {name: arrays[name] for name in _TOKENS}
        seconds = arrays["seconds"]
    observations = [record.observation for record in records]
    inputs = read_inputs(observations)
    return Answers(
        name=kept.stem,
        correct=np.array([record.correct for record in records], dtype=bool),
        evidence=np.array([str(record.fields.get("evidence")) for record in records]),
        groups=np.array([str(record.fields.get("group")) for record in records]),
        scores={name: np.array([one.scores[name] for one in observations]) for name in records[0].scores},
        signals=inputs.signals,
        hidden=inputs.hidden,
        tokens=tokens,
        seconds=seconds,
    )


def _read(
    model: LocalModel, records: Sequence[AnswerRecord], prompts: Sequence[Prompts]
) -> dict[str, FloatArray]:
    responses = [model.encode_response(record.response, record.finish_reason) for record in records]
    longest = max(map(len, responses))
    tokens = {name: np.full((len(records), longest), np.nan) for name in _TOKENS}
    seconds = np.zeros(2)
    by_length = sorted(range(len(records)), key=lambda at: (len(responses[at]), len(str(prompts[at].given))))
    for start in range(0, len(records), _SEVERAL):
        rows = by_length[start : start + _SEVERAL]
        values, took = both_readings(model, [prompts[row] for row in rows], [responses[row] for row in rows])
        seconds += took
        for row, found in zip(rows, values, strict=True):
            for name, column in zip(_TOKENS, found, strict=True):
                tokens[name][row, : len(column)] = column
        print(f"read {min(start + _SEVERAL, len(records))} of {len(records)}", flush=True)
    return {**tokens, "seconds": seconds}


def both_readings(
    model: LocalModel, prompts: Sequence[Prompts], responses: Sequence[Sequence[int]]
) -> tuple[list[tuple[FloatArray, ...]], FloatArray]:
    """Read answers behind both of their prompts.

    Returns:
        For each answer the values of its tokens in the order of ``Answers.tokens``, and the seconds that the
        two readings took.
    """
    sides: list[list[Trace]] = []
    logits: list[list[torch.Tensor]] = []
    for which in (0, 1):
        traces = model.read_encoded([model.encode_prompt(both[which]) for both in prompts], responses)
        sides.append(traces)
        logits.append([_logits(model, trace) for trace in traces])
        for trace in traces:
            trace.release()
    values = []
    for given, without, p, q in zip(*sides, *logits, strict=True):
        divergence = torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1)
        columns = (
            given.log_probabilities,
            without.log_probabilities,
            given.entropies,
            without.entropies,
            divergence.tolist(),
        )
        values.append(tuple(np.array(column) for column in columns))
    return values, np.array([traces[0].generate_s for traces in sides])


def _logits(model: LocalModel, trace: Trace) -> torch.Tensor:
    """Log-probabilities of every token where each of the response was predicted, (T, V)."""
    if trace.kept is None or trace.states is None:
        raise ValueError("The trace was released.")
    final = trace.states.final[trace.kept.row, : len(trace.response_ids)]
    with torch.no_grad():
        return torch.log_softmax(model.anatomy.head(final).float(), dim=-1)
