"""Estimators of lm-polygraph 0.7 (Fadeeva et al., EMNLP 2023), applied to samples drawn here.

lm-polygraph reads a dictionary of statistics for a batch of questions; each function here builds those that
one estimator needs. The end of turn counts as a token of an answer, as everywhere in this library.
"""

import importlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from guardrail.errors import MissingDependencyError
from guardrail.evaluation.methods import AnsweredQuestion
from guardrail.evaluation.similarity import (
    MeaningModel,
    SimilarityModel,
    semantic_classes,
    token_similarities,
)
from guardrail.models.replay.transformers_internals import quiet_transformers

__all__ = [
    "eigen_score",
    "predictive_entropy",
    "sar",
    "semantic_density",
    "semantic_entropy",
    "sentence_sar",
    "token_sar",
]


def predictive_entropy(answered: Sequence[AnsweredQuestion]) -> list[float]:
    """Mean negative log-likelihood of the samples, nats."""
    return _estimates("MonteCarloSequenceEntropy", sample_log_probs=_log_likelihoods(answered))


def semantic_entropy(answered: Sequence[AnsweredQuestion], model: MeaningModel) -> list[float]:
    """Predictive entropy over classes of samples with the same meaning, nats."""
    classes = [semantic_classes(one.question, _texts(one), model) for one in answered]
    return _estimates(
        "SemanticEntropy",
        sample_log_probs=_log_likelihoods(answered),
        sample_texts=[_texts(one) for one in answered],
        semantic_classes_entail={
            "sample_to_class": {at: dict(enumerate(of)) for at, of in enumerate(classes)},
            "class_to_sample": {at: _members(of) for at, of in enumerate(classes)},
        },
    )


def token_sar(answered: Sequence[AnsweredQuestion], model: SimilarityModel) -> list[float]:
    """Negative log-likelihood of the answer's tokens, weighted by their relevance, nats."""
    return _estimates(
        "TokenSAR",
        greedy_log_likelihoods=[np.array(one.log_probabilities) for one in answered],
        token_similarity=[
            np.array(token_similarities(one.question, [(one.response, one.token_texts)], model)[0])
            for one in answered
        ],
    )


def sentence_sar(answered: Sequence[AnsweredQuestion], model: SimilarityModel) -> list[float]:
    """Negative log-likelihood of the samples, each together with similar ones, nats."""
    log_likelihoods = _log_likelihoods(answered)
    # lm-polygraph takes logarithms of sums of probabilities, which underflow for long answers unless divided
    # by the largest.
    largest = [max(values) for values in log_likelihoods]
    values = _estimates(
        "SentenceSAR",
        sample_log_probs=[[v - m for v in vs] for vs, m in zip(log_likelihoods, largest, strict=True)],
        sample_sentence_similarity=[_similarity_matrix(one, model) for one in answered],
    )
    return [value - m for value, m in zip(values, largest, strict=True)]


def sar(answered: Sequence[AnsweredQuestion], model: SimilarityModel) -> list[float]:
    """Sentence SAR of the samples' token SAR, nats."""
    return _estimates(
        "SAR",
        sample_log_likelihoods=[[s.log_probabilities for s in one.samples] for one in answered],
        sample_token_similarity=[
            [
                np.array(similarities)
                for similarities in token_similarities(
                    one.question, [(s.text, s.token_texts) for s in one.samples], model
                )
            ]
            for one in answered
        ],
        sample_sentence_similarity=[_similarity_matrix(one, model) for one in answered],
    )


def semantic_density(answered: Sequence[AnsweredQuestion], model: MeaningModel) -> list[float]:
    """Probability (per token) of the samples near the answer, negated: from −1 to 0."""
    # lm-polygraph uses the mean log-likelihood anyway; given as a single token, it cannot underflow.
    distances = [
        np.array(model.distances(one.question, [(one.response, text) for text in _texts(one)]))
        for one in answered
    ]
    return _estimates(
        "SemanticDensity",
        greedy_log_likelihoods=[[float(np.mean(one.log_probabilities))] for one in answered],
        sample_log_probs=[[float(np.mean(s.log_probabilities)) for s in one.samples] for one in answered],
        sample_tokens=[[[0]] * len(one.samples) for one in answered],
        sample_texts=[_texts(one) for one in answered],
        concat_greedy_semantic_matrix_contra_forward=distances,
        concat_greedy_semantic_matrix_neutral_forward=[np.zeros_like(one) for one in distances],
    )


def eigen_score(answered: Sequence[AnsweredQuestion]) -> list[float]:
    """Mean logarithm of the eigenvalues of the samples' covariance in the middle layer."""
    embeddings = [np.array([s.embedding for s in one.samples]) for one in answered]
    return _estimates("EigenScore", sample_embeddings=embeddings)


def _estimates(estimator: str, **statistics: Any) -> list[float]:
    values = getattr(_estimators(), estimator)()(statistics)
    return [float(value) for value in values]


def _estimators() -> Any:
    try:
        # It imports spaCy, bert-score and others, some of which emit warnings.
        with warnings.catch_warnings(), quiet_transformers():
            warnings.simplefilter("ignore")
            return importlib.import_module("lm_polygraph.estimators")
    except ImportError as error:
        raise MissingDependencyError(
            f"This method needs lm-polygraph, which cannot be imported ({error}): "
            'pip install "guardrail-llm[evaluate]"'
        ) from error


def _texts(one: AnsweredQuestion) -> list[str]:
    return [sample.text for sample in one.samples]


def _log_likelihoods(answered: Sequence[AnsweredQuestion]) -> list[list[float]]:
    return [[sum(sample.log_probabilities) for sample in one.samples] for one in answered]


def _members(classes: Sequence[int]) -> list[list[int]]:
    return [[at for at, of in enumerate(classes) if of == number] for number in range(max(classes) + 1)]


def _similarity_matrix(one: AnsweredQuestion, model: SimilarityModel) -> Any:
    """Pairwise similarity of the samples (N × N)."""
    texts = _texts(one)
    alike = model.similarities([(first, second) for first in texts for second in texts])
    return np.array(alike).reshape(len(texts), len(texts))
