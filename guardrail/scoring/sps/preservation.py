"""The Semantic Preservation Score: where in a prompt its meaning gathers.

SPS(l, t) = mean cosine similarity of h[l][t] among paraphrases of one query − the same among different
queries. Source: "Gradients with Respect to Semantics Preserving Embeddings Tell the Uncertainty of Large
Language Models", arXiv 2605.04638.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["QueryStates", "preservation"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class QueryStates:
    """What all similarities follow from: the directions of each query's wordings, summed up.

    With u = h/‖h‖ for each of a query's n wordings and m their mean, the mean cosine similarity of two
    different wordings is (n²‖m‖² − n) / (n(n − 1)), and that between two queries is m · m'. The wordings
    themselves need not be kept.

    Attributes:
        means: m of each query, layer and position (Q × L × N × d).
        within: Mean cosine similarity of a query's wordings (Q × L × N).
    """

    means: Array
    within: Array

    @classmethod
    def of(cls, sums: Array, counts: NDArray[np.int64]) -> "QueryStates":
        """From sums of directions (Q × L × N × d) and the number of each query's wordings (Q), all ≥ 2."""
        n = counts[:, None, None].astype(np.float64)
        within = (np.einsum("qlnd,qlnd->qln", sums, sums) - n) / (n * (n - 1))
        return cls(sums / n[..., None], within)


def preservation(states: QueryStates, weights: Array | None = None) -> Array:
    """SPS of every layer and position, each query counting the same.

    Args:
        states: Of Q ≥ 2 queries.
        weights: How often each query counts, for each of B samples (B × Q), as a bootstrap draws them; copies
            of a query are never different queries. Once each if not given.

    Returns:
        SPS, from −2 to 2 (L × N; B × L × N with weights).
    """
    means, within = states.means, states.within
    given = np.ones((1, len(means))) if weights is None else weights
    squared = np.einsum("qlnd,qlnd->qln", means, means)
    scores = np.empty((len(given), *within.shape[1:]))
    total = given.sum(1)
    pairs = (total**2 - (given**2).sum(1))[:, None]
    for layer in range(within.shape[1]):
        # Layer by layer: the weighted sums of all at once would be B × L × N × d.
        summed = np.tensordot(given, means[:, layer], axes=1)
        apart = np.einsum("bnd,bnd->bn", summed, summed) - given**2 @ squared[:, layer]
        scores[:, layer] = given @ within[:, layer] / total[:, None] - apart / pairs
    return scores[0] if weights is None else scores
