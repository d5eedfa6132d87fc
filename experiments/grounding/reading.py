"""What the model says of each token of an answer, without the document in its prompt and with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from experiments.grounding.documents import prompts_of
from guardrail import LocalModel
from guardrail.calibration.features import read_inputs
from guardrail.labelling.answers import AnswerRecord, read_answers
from guardrail.models.prompt import Prompt

__all__ = ["Answers", "Reading", "read_file", "read_tokens"]

FloatArray = NDArray[np.float64]
_SEVERAL = 16


@dataclass(frozen=True, slots=True)
class Reading:
    """Values of each token of each answer behind one prompt, NaN behind the last, (n, longest), in nats.

    Attributes:
        log_probabilities: Of the tokens.
        entropies: Of the distributions that they were taken from.
    """

    log_probabilities: FloatArray
    entropies: FloatArray


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of a file to questions with a document, n of them.

    Attributes:
        name: Of the file.
        correct: Whether each is right, (n,).
        evidence: Whether its document states the answer, lacks it or contradicts the question, (n,).
        groups: Name of its document, (n,).
        scores: The scores of the pass that it was given with, the document in the prompt, each (n,).
        signals: The same as a confidence reads them, (n, terms).
        hidden: Hidden states [mean, last] at two thirds, (n, 2d); None where none were kept.
        without: What was read without the document.
        given: What was read once more with it; None where it was not.
    """

    name: str
    correct: NDArray[np.bool_]
    evidence: NDArray[np.str_]
    groups: NDArray[np.str_]
    scores: dict[str, FloatArray]
    signals: FloatArray
    hidden: NDArray[np.float32] | None
    without: Reading
    given: Reading | None = None


def read_file(path: Path, cache: Path, open_model: Callable[[], LocalModel], *, again: bool) -> Answers:
    """Read the answers of a file without their documents, or take what was kept of the last time.

    Args:
        path: A file of answers, as ``guardrail calibrate`` writes it. Those without a label or without a
            document are left out.
        cache: Folder of what was read.
        open_model: Opens the model that gave the answers.
        again: Whether to read them with the document as well, for what the file does not keep of each token.
    """
    found = [
        (record, prompts)
        for record in read_answers(path).records
        if record.correct is not None and (prompts := prompts_of(record.fields)) is not None
    ]
    records = [record for record, _ in found]
    name = path.name.split(".")[0]

    def reading(side: str, prompts: Sequence[Prompt]) -> Reading:
        kept = cache / f"{name}-{side}.npz"
        if not kept.exists():
            model = open_model()
            responses = [_response_ids(model, record) for record in records]
            read = read_tokens(model, prompts, responses)
            cache.mkdir(parents=True, exist_ok=True)
            np.savez(kept, log_probabilities=read.log_probabilities, entropies=read.entropies)
        with np.load(kept, allow_pickle=False) as arrays:
            return Reading(arrays["log_probabilities"], arrays["entropies"])

    observations = [record.observation for record in records]
    inputs = read_inputs(observations)
    return Answers(
        name=name,
        correct=np.array([record.correct for record in records], dtype=bool),
        evidence=np.array([str(record.fields.get("evidence")) for record in records]),
        groups=np.array([str(record.fields.get("group")) for record in records]),
        scores={key: np.array([one.scores[key] for one in observations]) for key in observations[0].scores},
        signals=inputs.signals,
        hidden=inputs.hidden,
        without=reading("without", [prompts.without for _, prompts in found]),
        given=reading("given", [prompts.given for _, prompts in found]) if again else None,
    )


def read_tokens(model: LocalModel, prompts: Sequence[Prompt], responses: Sequence[Sequence[int]]) -> Reading:
    """Read answers behind their prompts, those of like length together."""
    encoded = [model.encode_prompt(prompt) for prompt in prompts]
    shape = (len(responses), max(map(len, responses)))
    reading = Reading(np.full(shape, np.nan), np.full(shape, np.nan))
    order = sorted(range(len(responses)), key=lambda at: (len(responses[at]), len(encoded[at].ids)))
    for start in range(0, len(order), _SEVERAL):
        rows = order[start : start + _SEVERAL]
        traces = model.read_encoded([encoded[row] for row in rows], [responses[row] for row in rows])
        for row, trace in zip(rows, traces, strict=True):
            trace.release()
            tokens = slice(len(responses[row]))
            reading.log_probabilities[row, tokens] = trace.log_probabilities
            reading.entropies[row, tokens] = trace.entropies
        print(f"read {min(start + _SEVERAL, len(order))} of {len(order)}", flush=True)
    return reading


def _response_ids(model: LocalModel, record: AnswerRecord) -> list[int]:
    ended = record.finish_reason
    return model.encode_response(record.response, "length" if ended == "length" else None)
