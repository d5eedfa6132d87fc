"""Other answers to the same questions, drawn from the model's own distribution."""

from collections.abc import Sequence
from itertools import repeat
from typing import TYPE_CHECKING

from guardrail.errors import OptionError
from guardrail.evaluation.methods.method import Sample

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel
    from guardrail.models.prompt import EncodedPrompt
    from guardrail.models.sampling import Sampling
    from guardrail.models.trace import Trace

__all__ = ["EMBEDDING_DEPTH", "draw_samples"]

# The middle layer, where INSIDE (Chen et al., ICLR 2024) takes its embeddings.
EMBEDDING_DEPTH = 0.5

# Rows of one run: what a run keeps for scoring grows with them, and is thrown away here.
ROWS_AT_ONCE = 40


def draw_samples(
    model: "LocalModel", prompts: Sequence["EncodedPrompt"], sampling: "Sampling", count: int
) -> list[tuple[Sample, ...]]:
    """Draw several answers to each prompt, those of several prompts in one run.

    Args:
        model: The model.
        prompts: The prompts.
        sampling: How to draw; the temperature is above 0. The same seed, prompts and count give the same
            samples.
        count: How many answers to each prompt, at least 2.

    Returns:
        For each prompt its samples, each with its embedding (d numbers).

    Raises:
        OptionError: A temperature of 0, which gives one answer only, or too small a count.
        PromptError: A prompt does not fit the context.
        GenerationError: The model gave logits that are not numbers.
    """
    if sampling.temperature == 0:
        raise OptionError("Samples are drawn at a temperature above 0; at 0 they would all be the same.")
    if count < 2:
        raise OptionError(f"The number of samples is {count}; what samples tell needs at least 2.")
    drawn: list[tuple[Sample, ...]] = []
    at_once = max(1, ROWS_AT_ONCE // count)
    for first in range(0, len(prompts), at_once):
        rows = [row for prompt in prompts[first : first + at_once] for row in repeat(prompt, count)]
        # Another run's answers are not drawn by the same noise.
        traces = model.generate_encoded(rows, sampling.drawn_apart(first), depths=[EMBEDDING_DEPTH])
        samples = [_sample(trace) for trace in traces]
        drawn += [tuple(samples[at : at + count]) for at in range(0, len(samples), count)]
    return drawn


def _sample(trace: "Trace") -> Sample:
    trace.release()
    (hidden,) = trace.hidden.values()
    # A sample that was cut off in its reasoning says nothing, and is as likely as what it thought.
    start = trace.answer_start if trace.has_answer else 0
    return Sample(
        text=trace.text,
        token_ids=tuple(trace.response_ids[start:]),
        token_texts=tuple(trace.token_texts[start:]),
        log_probabilities=tuple(trace.log_probabilities[start:]),
        embedding=tuple(hidden.last.float().tolist()),
    )
