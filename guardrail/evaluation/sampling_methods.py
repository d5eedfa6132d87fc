"""Methods that sample several answers or ask the model about its own answer: the paper's baselines."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import isfinite
from typing import TypeVar

from guardrail.errors import OptionError, ScoringError
from guardrail.evaluation import polygraph
from guardrail.evaluation.methods import AnsweredQuestion, Estimate, Method
from guardrail.evaluation.similarity import (
    STAND_IN,
    MeaningModel,
    SimilarityModel,
    open_meaning_model,
    open_similarity_model,
)
from guardrail.models.sampling import Sampling

__all__ = ["DRAWING", "check_available", "sampled_methods"]


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
            polygraph.predictive_entropy,
        ),
        by_meaning("semantic_entropy", "Semantic Entropy", _SEMANTIC_ENTROPY, polygraph.semantic_entropy),
        by_similarity("token_sar", "Token SAR", _SAR, polygraph.token_sar, samples=None),
        by_similarity("sentence_sar", "Sentence SAR", _SAR, polygraph.sentence_sar),
        by_similarity("sar", "SAR", _SAR, polygraph.sar),
        by_meaning(
            "semantic_density",
            "Semantic Density",
            "Qiu and Miikkulainen, Semantic Density, NeurIPS 2024",
            polygraph.semantic_density,
        ),
        by_samples(
            "eigen_score", "INSIDE (EigenScore)", "Chen et al., INSIDE, ICLR 2024", polygraph.eigen_score
        ),
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
