"""Methods that tell right answers from wrong ones, and those computed from one pass over the answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from guardrail.errors import OptionError
from guardrail.models.sampling import Sampling
from guardrail.scoring.options import Layers, Norm, Reduction, ScoringOptions
from guardrail.scoring.uncertainty import HiddenState, PackedFloats, Uncertainty
from guardrail.utils.text import did_you_mean

__all__ = [
    "GRADIENTS",
    "AnsweredQuestion",
    "Estimate",
    "Method",
    "Sample",
    "ablations",
    "gradient_method",
    "one_pass_methods",
]


@dataclass(frozen=True, slots=True)
class Sample:
    """One of several answers sampled to see what else the model might have said.

    Attributes:
        text: The answer.
        token_ids: Its tokens, with the end of turn if it was generated.
        token_texts: The text of each.
        log_probabilities: Log-probability (nats) of each at temperature 1.
        embedding: Hidden state of its last token in the middle layer, d numbers; empty where none was kept.
    """

    text: str
    token_ids: Sequence[int]
    token_texts: Sequence[str]
    log_probabilities: Sequence[float]
    embedding: PackedFloats = ()


@dataclass(frozen=True, slots=True)
class AnsweredQuestion:
    """A question with the answer to be told right from wrong, and what methods read.

    Attributes:
        question: What was asked, as a person reads it.
        messages: What the model read.
        response: The answer.
        token_ids: Its tokens, with the end of turn if it was generated, and without the reasoning before it.
        token_texts: The text of each.
        log_probabilities: Log-probability (nats) of each at temperature 1.
        entropies: Entropy (nats) of the distribution that each was drawn from.
        scored: Its uncertainty under each set of scoring options that a method asked for.
        samples: Other answers, where a method asked for them.
        asides: Results of further questions to the model, by name (such as ``p_true``).
        hidden: Hidden state over the answer, where a method asked for it.
        reasoning_ids: Tokens of the reasoning before the answer, part of the context where it is scored.
    """

    question: str
    messages: Sequence[Mapping[str, str]]
    response: str
    token_ids: Sequence[int]
    token_texts: Sequence[str]
    log_probabilities: Sequence[float]
    entropies: Sequence[float]
    scored: Mapping[ScoringOptions, Uncertainty]
    samples: Sequence[Sample] = ()
    asides: Mapping[str, float] = field(default_factory=dict)
    hidden: HiddenState | None = None
    reasoning_ids: Sequence[int] = ()

    @property
    def response_ids(self) -> list[int]:
        """All that was written, reasoning and answer."""
        return [*self.reasoning_ids, *self.token_ids]


Estimate = Callable[[Sequence[AnsweredQuestion]], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Method:
    """An estimator of how unsure a model was of its answer.

    Attributes:
        name: Its name in ``--methods``: lower case with underscores.
        title: Its name in tables.
        paper: Where it comes from: authors, year, where it was published.
        estimate: Gives each answer a finite number that goes **up** with uncertainty.
        options: The scoring options whose scores it reads; empty if none.
        samples: How other answers are sampled for it; None if it needs none.
        asides: Names of the further questions it needs the model to be asked.
        depth: Fraction of the layers whose hidden state of the answer it reads; None where it reads none.
        similarity: Kind of the second model that it compares texts by: ``nli``, ``cross_encoder``, or none.
        stand_in: What took the place of such a model, or empty. Every table says so.
    """

    name: str
    title: str
    paper: str
    estimate: Estimate
    options: Sequence[ScoringOptions] = ()
    samples: Sampling | None = None
    asides: Sequence[str] = ()
    depth: float | None = None
    similarity: str = ""
    stand_in: str = ""


_SEMGRAD = "arXiv 2605.04638 (ICML 2026)"
_MALININ = "Malinin & Gales (2021), ICLR"
_FOMICHEVA = "Fomicheva et al. (2020), TACL"
_MANAKUL = "Manakul et al. (2023), EMNLP"

# Gradients by name, and how tables show them.
GRADIENTS = {
    "hybridgrad": "HybridGrad",
    "semgrad": "SemGrad",
    "paragrad": "ParaGrad",
    "exgrad": "ExGrad",
}
_OF_SEMGRAD = ("hybridgrad", "semgrad")
_SHOWN: Mapping[str, Mapping[Any, str]] = {
    "reduction": {"sum": "sum", "mean": "mean"},
    "norm": {"l1": "ℓ1", "l2": "ℓ2"},
    "layers": {"upper": "upper half", "lower": "lower half", "last": "last layer", "all": "all layers"},
    "entropy_weight": {True: "entropy weight", False: "no entropy weight"},
    "include_tied_embedding": {True: "tied embedding", False: "head alone"},
}


def gradient_method(
    name: str, arguments: Mapping[str, str] | None = None, token: int | None = None
) -> Method:
    """HybridGrad, SemGrad, ParaGrad or ExGrad, scored in some way.

    The mean over T tokens is a T-th of their sum, and so are the gradients: it takes no pass of its own.

    Args:
        name: One of ``GRADIENTS``.
        arguments: Arguments of :class:`ScoringOptions` as texts.
        token: t* where the arguments name none; None for the rule of the model's chat template.

    Raises:
        OptionError: An argument that there is not, or a value that it cannot have.
    """
    values = {key: _value(name, key, text) for key, text in (arguments or {}).items()}
    asked = ScoringOptions(**{"semantic_token": token, **values}, exgrad=name == "exgrad")
    options = replace(asked, reduction="sum")
    listed = ",".join(f"{key}={_written(values[key])}" for key in sorted(values))
    shown = ", ".join(_shown(key, values[key]) for key in sorted(values))
    return Method(
        name=f"{name}[{listed}]" if listed else name,
        title=f"{GRADIENTS[name]} ({shown})" if shown else GRADIENTS[name],
        paper=_SEMGRAD,
        estimate=_gradient(name, options, averaged=asked.reduction == "mean"),
        options=(options,),
    )


def _gradient(name: str, options: ScoringOptions, *, averaged: bool) -> Estimate:
    def estimate(answers: Sequence[AnsweredQuestion]) -> list[float]:
        sizes = (float(getattr(answer.scored[options], name)) for answer in answers)
        lengths = (len(answer.token_ids) if averaged else 1 for answer in answers)
        return [size / length for size, length in zip(sizes, lengths, strict=True)]

    return estimate


def _value(name: str, key: str, text: str) -> Any:
    of_layers = ("layers", "semantic_token") if name in _OF_SEMGRAD else ()
    known = ("reduction", "norm", "entropy_weight", "include_tied_embedding", *of_layers)
    if key not in known or (name == "exgrad" and key == "entropy_weight"):
        raise OptionError(f"{name} has no argument {key!r}{did_you_mean(key, known)}.")
    if key == "semantic_token":
        try:
            return int(text.replace("−", "-"))
        except ValueError:
            raise OptionError(f"semantic_token is {text!r}; it is a position such as -4.") from None
    choices: dict[str, Sequence[Any]] = {
        "reduction": get_args(Reduction),
        "norm": get_args(Norm),
        "layers": get_args(Layers),
    }
    if key in choices:
        if text not in choices[key]:
            raise OptionError(f"{key} is {text!r}; it can be {' or '.join(choices[key])}.")
        return text
    if text not in ("true", "false"):
        raise OptionError(f"{key} is {text!r}; it can be true or false.")
    return text == "true"


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shown(key: str, value: Any) -> str:
    if key == "semantic_token":
        return f"t* {value}".replace("-", "−")
    return _SHOWN[key][value]


def _of_tokens(
    name: str, title: str, paper: str, of_answer: Callable[[AnsweredQuestion], float]
) -> tuple[str, Method]:
    return name, Method(name, title, paper, lambda answers: [of_answer(answer) for answer in answers])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


_VARIANTS: Sequence[tuple[str, Mapping[str, str]]] = (
    *(
        (name, arguments)
        for name in _OF_SEMGRAD
        for arguments in (
            {"norm": "l2"},
            {"entropy_weight": "false"},
            {"layers": "last"},
            {"layers": "lower"},
            {"semantic_token": "-1"},
            {"reduction": "mean"},
        )
    ),
    ("paragrad", {"norm": "l2"}),
    ("paragrad", {"reduction": "mean"}),
)
_OF_TOKENS = dict(
    (
        _of_tokens("log_likelihood", "Likelihood", _MALININ, lambda a: -sum(a.log_probabilities)),
        # Its logarithm, which ranks alike and overflows never.
        _of_tokens("perplexity", "Perplexity", _FOMICHEVA, lambda a: -_mean(a.log_probabilities)),
        _of_tokens("mean_entropy", "Mean entropy", _FOMICHEVA, lambda a: _mean(a.entropies)),
        _of_tokens("max_entropy", "Largest entropy", _MANAKUL, lambda a: max(a.entropies)),
        _of_tokens("sum_entropy", "Sum of entropies", _MALININ, lambda a: sum(a.entropies)),
        _of_tokens(
            "min_token_probability",
            "Least probable token",
            _MANAKUL,
            lambda a: -min(a.log_probabilities),
        ),
        _of_tokens("length", "Length", "none: what length alone tells", lambda a: len(a.token_ids)),
    )
)


def one_pass_methods(token: int | None = None) -> Mapping[str, Method]:
    """Every method of one pass by its name, each as it is by default.

    Args:
        token: t*; None for the rule of the model's chat template.
    """
    return {**{name: gradient_method(name, token=token) for name in GRADIENTS}, **_OF_TOKENS}


def ablations(token: int | None = None) -> Mapping[str, Method]:
    """What the paper's table changes in HybridGrad and its parts, one thing at a time, by name.

    Args:
        token: t* where that is not what is changed; None for the rule.
    """
    methods = (gradient_method(name, arguments, token) for name, arguments in _VARIANTS)
    return {method.name: method for method in methods}
