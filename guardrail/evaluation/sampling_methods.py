"""Methods that sample several answers or ask the model about its own answer: the paper's baselines.

Most are estimators of lm-polygraph 0.7 (Fadeeva et al., EMNLP 2023), applied to samples drawn here. It reads
a dictionary of statistics for a batch of questions; those that one estimator needs are built here. The end of
turn counts as a token of an answer, as everywhere in this library.
"""

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import isfinite
from typing import Any, TypeVar

import numpy as np

from guardrail.errors import MissingDependencyError, OptionError, ScoringError
from guardrail.evaluation.methods import AnsweredQuestion, Estimate, Method
from guardrail.evaluation.similarity import (
    STAND_IN,
    MeaningModel,
    SimilarityModel,
    open_meaning_model,
    open_similarity_model,
    semantic_classes,
    token_similarities,
)
from guardrail.models.replay.transformers_internals import quiet_transformers
from guardrail.models.sampling import Sampling

__all__ = [
    "DRAWING",
    "check_available",
    "eigen_score",
    "predictive_entropy",
    "sampled_methods",
    "sar",
    "semantic_density",
    "semantic_entropy",
    "sentence_sar",
    "token_sar",
]


# The model's full distribution.
DRAWING = Sampling(temperature=1.0, top_p=1.0, seed=0)

_SEMANTIC_ENTROPY = "Kuhn et al., Semantic Uncertainty, ICLR 2023"
_SAR = "Duan et al., Shifting Attention to Relevance, ACL 2024"

Model = TypeVar("Model", MeaningModel, SimilarityModel)


def sampled_methods(
    *,
    nli: str | MeaningModel | None = None,
    cross_encoder: str | SimilarityModel | None = None,
    sampling: Sampling = DRAWING,
) -> Mapping[str, Method]:
    """All sampling methods by name. Nothing is loaded until a method is used or checked.

    Args:
        nli: NLI model that decides which answers mean the same; ``minilm`` for the stand-in.
        cross_encoder: Cross-encoder for the similarity of answers; ``minilm`` for the stand-in.
        sampling: How samples are drawn.
    """
    meaning = _opened(nli, open_meaning_model, "an NLI model", "--nli")
    similarity = _opened(cross_encoder, open_similarity_model, "a cross-encoder", "--cross-encoder")

    def by_samples(name: str, title: str, paper: str, estimate: Estimate) -> Method:
        return Method(name, title, paper, _checked(title, estimate), samples=sampling)

    def by_meaning(
        name: str,
        title: str,
        paper: str,
        estimate: Callable[[Sequence[AnsweredQuestion], MeaningModel], list[float]],
    ) -> Method:
        return Method(
            name,
            title,
            paper,
            _checked(title, lambda answered: estimate(answered, meaning())),
            samples=sampling,
            similarity="nli",
            stand_in=_stand_in(nli),
        )

    def by_similarity(
        name: str,
        title: str,
        paper: str,
        estimate: Callable[[Sequence[AnsweredQuestion], SimilarityModel], list[float]],
        samples: Sampling | None = sampling,
    ) -> Method:
        return Method(
            name,
            title,
            paper,
            _checked(title, lambda answered: estimate(answered, similarity()), drawn=samples is not None),
            samples=samples,
            similarity="cross_encoder",
            stand_in=_stand_in(cross_encoder),
        )

    def by_aside(name: str, title: str, paper: str, estimate: Callable[[float], float]) -> Method:
        def of(answered: Sequence[AnsweredQuestion]) -> list[float]:
            return [estimate(_aside(title, name, one)) for one in answered]

        return Method(name, title, paper, _checked(title, of), samples=sampling, asides=(name,))

    methods = (
        by_samples(
            "predictive_entropy",
            "Predictive entropy",
            f"{_SEMANTIC_ENTROPY} (Monte Carlo)",
            predictive_entropy,
        ),
        by_meaning("semantic_entropy", "Semantic Entropy", _SEMANTIC_ENTROPY, semantic_entropy),
        by_similarity("token_sar", "Token SAR", _SAR, token_sar, samples=None),
        by_similarity("sentence_sar", "Sentence SAR", _SAR, sentence_sar),
        by_similarity("sar", "SAR", _SAR, sar),
        by_meaning(
            "semantic_density",
            "Semantic Density",
            "Qiu and Miikkulainen, Semantic Density, NeurIPS 2024",
            semantic_density,
        ),
        by_samples("eigen_score", "INSIDE (EigenScore)", "Chen et al., INSIDE, ICLR 2024", eigen_score),
        by_meaning(
            "self_consistency",
            "Self-consistency",
            "Wang et al., Self-Consistency, ICLR 2023",
            self_consistency,
        ),
        by_aside(
            "p_true",
            "P(True)",
            "Kadavath et al., Language Models (Mostly) Know What They Know, 2022",
            lambda probability: 1 - probability,
        ),
        by_aside(
            "mutual_information",
            "MI",
            "Abbasi-Yadkori et al., To Believe or Not to Believe Your LLM, NeurIPS 2024",
            lambda information: information,
        ),
    )
    return {method.name: method for method in methods}


def check_available(method: Method) -> None:
    """Open the models and packages that a method needs, before anything is sampled for it.

    Raises:
        OptionError: It needs a second model, but none was named.
        MissingDependencyError: A package is not installed.
        ModelUnavailableError: The second model cannot be opened.
    """
    method.estimate(())


def self_consistency(answered: Sequence[AnsweredQuestion], model: MeaningModel) -> list[float]:
    """Share of the samples that do not mean the same as the answer."""
    agreeing = (
        model.means_same(one.question, [(one.response, sample.text) for sample in one.samples])
        for one in answered
    )
    return [1 - sum(same) / len(same) for same in agreeing]


def _opened(
    given: str | Model | None, opening: Callable[[str], Model], kind: str, option: str
) -> Callable[[], Model]:
    @cache
    def opened() -> Model:
        if given is None:
            raise OptionError(
                f"This method compares texts by {kind}: name one with {option}, or use sentence embeddings "
                f"as a "
                f"stand-in with {option} {STAND_IN}."
            )
        return opening(given) if isinstance(given, str) else given

    return opened


def _stand_in(given: str | MeaningModel | SimilarityModel | None) -> str:
    if given is None or isinstance(given, str):
        return "all-MiniLM-L6-v2 (cosine)" if given == STAND_IN else ""
    return given.stand_in


def _checked(title: str, estimate: Estimate, *, drawn: bool = True) -> Estimate:
    def checked(answered: Sequence[AnsweredQuestion]) -> list[float]:
        for one in answered:
            if drawn and not one.samples:
                raise ScoringError(f"{title} needs sampled answers to {one.question!r}, but none were drawn.")
        values = list(estimate(answered))
        for one, value in zip(answered, values, strict=True):
            if not isfinite(value):
                raise ScoringError(
                    f"{title} of the answer to {one.question!r} is {value}; it must be a finite number."
                )
        return values

    return checked


def _aside(title: str, name: str, one: AnsweredQuestion) -> float:
    if name not in one.asides:
        raise ScoringError(f"{title} of the answer to {one.question!r} was not requested from the model.")
    return one.asides[name]


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
