"""Answers and samples made by hand, and a model of meanings that goes by their first word."""

from collections.abc import Mapping, Sequence

from guardrail.evaluation.methods import AnsweredQuestion, Sample


def sample(text: str, *log_probabilities: float, embedding: Sequence[float] = ()) -> Sample:
    """One token a word; a log-probability for each, or −1."""
    words = [word if not at else f" {word}" for at, word in enumerate(text.split(" "))]
    return Sample(
        text=text,
        token_ids=tuple(range(20, 20 + len(words))),
        token_texts=tuple(words),
        log_probabilities=log_probabilities or (-1.0,) * len(words),
        embedding=embedding,
    )


def answered(
    answer: Sample | str, *samples: Sample, question: str = "Who?", asides: Mapping[str, float] | None = None
) -> AnsweredQuestion:
    said = sample(answer) if isinstance(answer, str) else answer
    return AnsweredQuestion(
        question=question,
        messages=({"role": "user", "content": question},),
        response=said.text,
        token_ids=said.token_ids,
        token_texts=said.token_texts,
        log_probabilities=said.log_probabilities,
        entropies=(0.5,) * len(said.token_ids),
        scored={},
        samples=samples,
        asides=asides or {},
    )


class ByFirstWord:
    """Answers mean the same if their first words are the same; others are 1 apart, and alike by 0."""

    name, stand_in = "by-first-word", ""

    def means_same(self, question: str, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        return [first.split()[:1] == second.split()[:1] for first, second in pairs]

    def distances(self, question: str, pairs: Sequence[tuple[str, str]]) -> list[float]:
        return [float(not same) for same in self.means_same(question, pairs)]

    def similarities(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        return [float(same) for same in self.means_same("", pairs)]


class ByWords(ByFirstWord):
    """Alike by the share of words that two texts have in common (Jaccard), which is no whole number."""

    name = "by-words"

    def similarities(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        sets = [(set(first.split()), set(second.split())) for first, second in pairs]
        return [len(a & b) / max(1, len(a | b)) for a, b in sets]
