"""Labelled answers for the laws of metrics: few distinct scores, so that ties are common."""

import numpy as np
from hypothesis import strategies as st

_PAIRS = st.tuples(st.integers(0, 8), st.booleans())


def _arrays(pairs):
    scores, correct = zip(*pairs, strict=True)
    return np.array(scores, dtype=float), np.array(correct)


ANSWERS = st.lists(_PAIRS, min_size=1, max_size=30).map(_arrays)
BOTH_KINDS = ANSWERS.filter(lambda answers: 0 < answers[1].sum() < len(answers[1]))


def drawn(n, seed=0):
    """Probabilities that are right, without ties, and labels drawn by them."""
    generator = np.random.default_rng(seed)
    confidence = generator.beta(2, 1.5, n)
    return confidence, generator.random(n) < confidence
