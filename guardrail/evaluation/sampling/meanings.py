"""Which of several answers to one question mean the same."""

from collections.abc import Sequence
from itertools import combinations

from guardrail.evaluation.sampling.similarity import MeaningModel

__all__ = ["semantic_classes"]


def semantic_classes(question: str, texts: Sequence[str], model: MeaningModel) -> list[int]:
    """Put answers that mean the same into classes (Kuhn et al., ICLR 2023, algorithm 1).

    An answer joins the first class whose first member means the same, or begins a new one.

    Returns:
        The class of each text: numbers from 0, in the order of their first members.
    """
    unique = list(dict.fromkeys(texts))
    pairs = list(combinations(unique, 2))
    same = dict(zip(pairs, model.means_same(question, pairs), strict=True)) if pairs else {}
    firsts: list[str] = []
    classes: dict[str, int] = {}
    for text in unique:
        found = next((at for at, first in enumerate(firsts) if same[first, text]), len(firsts))
        if found == len(firsts):
            firsts.append(text)
        classes[text] = found
    return [classes[text] for text in texts]
