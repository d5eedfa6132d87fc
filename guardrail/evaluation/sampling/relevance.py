"""How much each token matters to what an answer says (Duan et al., ACL 2024)."""

from collections.abc import Sequence
from itertools import accumulate

from guardrail.evaluation.sampling.similarity import SimilarityModel

__all__ = ["token_similarities", "without_each_token"]


def without_each_token(text: str, token_texts: Sequence[str]) -> list[str]:
    """An answer without its first token, without its second, and so on.

    Args:
        text: The answer, without special tokens and cut before a stop string.
        token_texts: The text of every token. Without one that is not seen in the answer, such as the end of
            turn, the answer is the same.
    """
    joined = "".join(token_texts)
    seen = text if joined.startswith(text) else joined
    ends = list(accumulate(map(len, token_texts)))
    begins = [0, *ends[:-1]]
    return [seen[:begin] + seen[end:] for begin, end in zip(begins, ends, strict=True)]


def token_similarities(
    question: str, answers: Sequence[tuple[str, Sequence[str]]], model: SimilarityModel
) -> list[list[float]]:
    """How alike each answer is to itself without each of its tokens: 1 less a token's relevance.

    Args:
        question: What stands before the answer, as in the paper.
        answers: Each answer's text and its tokens' texts.
        model: The model that compares.

    Returns:
        For each answer a number from 0 to 1 a token. Where no token matters at all, all matter the same:
        relevances are divided by their sum.
    """
    shortened = [without_each_token(text, token_texts) for text, token_texts in answers]
    pairs = [
        (text, less)
        for (text, _), every in zip(answers, shortened, strict=True)
        for less in every
        if less != text
    ]
    alike = dict(
        zip(
            pairs, model.similarities([(f"{question} {a}", f"{question} {b}") for a, b in pairs]), strict=True
        )
    )
    similarities = [
        [alike.get((text, less), 1.0) for less in every]
        for (text, _), every in zip(answers, shortened, strict=True)
    ]
    return [one if min(one) < 1 else [0.0] * len(one) for one in similarities]
