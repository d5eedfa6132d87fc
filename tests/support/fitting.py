"""Answers whose probability of being correct is known, because it made them."""

import numpy as np

from guardrail.labelling.answers import LabelledAnswer
from guardrail.scoring.uncertainty import HiddenState, Observation

DEPTH = 0.5


def some_answers(
    count: int,
    *,
    seed: int = 0,
    known: float = 1.0,
    hidden: float = 0.0,
    size: int = 12,
    bias: float = 0.3,
) -> list[LabelledAnswer]:
    """Answers of which the scores tell something, and the hidden state something else.

    Args:
        count: How many.
        seed: What they are drawn by.
        known: How much the scores tell of correctness.
        hidden: How much the hidden state tells beyond them.
        size: Its width d; 0 for none.
        bias: Log-odds of the average answer.
    """
    random = np.random.default_rng(seed)
    sure, deep = random.normal(size=(2, count))
    correct = random.random(count) < 1 / (1 + np.exp(-(bias + known * sure + hidden * deep)))
    noise = random.normal(size=(6, count))
    scores = {
        "hybridgrad": np.exp(-7 - 1.2 * sure + 0.6 * noise[0]),
        "semgrad": np.exp(-6 - sure + noise[1]),
        "paragrad": np.exp(-9 - sure + noise[2]),
        "mean_entropy": np.exp(-1 - 0.5 * sure + 0.3 * noise[3]),
        "log_likelihood": -np.exp(1 - 0.4 * sure + 0.5 * noise[4]),
        "tokens": np.ceil(np.exp(2 + 0.5 * noise[5])),
    }
    # One direction that tells, other directions of more variance that do not, and offsets.
    states = random.normal(size=(count, 2 * size)) + np.arange(2 * size)
    states[:, : size // 2] += 2 * deep[:, None]
    return [
        LabelledAnswer(
            Observation(
                {name: float(values[at]) for name, values in scores.items()},
                HiddenState(DEPTH, states[at, :size].tolist(), states[at, size:].tolist()) if size else None,
            ),
            bool(correct[at]),
            f"Question {at}?",
        )
        for at in range(count)
    ]
