"""Provenance of answers: who gave them, which model scored them, and with which arguments.

A profile is valid for answers from the author of those it was made from. A model whose weights are available
is identified by its fingerprint. Any other is known only by a declared name, because a served model reveals
no more.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar

from guardrail.errors import OptionError
from guardrail.models.fingerprint import ModelFingerprint, difference_in, fingerprint_model
from guardrail.scoring.options import ScorerFingerprint, fingerprint_scorer
from guardrail.scoring.uncertainty import DOCUMENT_GAIN

if TYPE_CHECKING:
    from guardrail.labelling.questions import LabelOptions
    from guardrail.models.local import LocalModel

__all__ = [
    "Author",
    "Provenance",
    "ScorerVersion",
    "author_of",
    "generation_arguments",
    "name_problem",
    "provenance_of",
    "same_name",
]


@dataclass(frozen=True, slots=True)
class ScorerVersion:
    """What all ways of scoring in one evaluation have in common.

    Attributes:
        version: Of the scorer.
        semantic_token: t* of the ways that name none; None for the rule of the model's chat template.
    """

    version: int
    semantic_token: int | None

    def as_plain(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


Scorer = TypeVar("Scorer", ScorerFingerprint, ScorerVersion)


@dataclass(frozen=True, slots=True)
class Provenance(Generic[Scorer]):
    """What made an answer. An interrupted run goes on only with answers of one provenance.

    Attributes:
        model: The model that scored it.
        scorer: How it was scored.
        generation: Arguments that it was generated with.
        answered_by: Who gave it, by a declared name; None for the model itself.
        samples: Arguments that other answers were drawn with, and their ``count``; None where none were.
    """

    model: ModelFingerprint
    scorer: Scorer
    generation: Mapping[str, Any]
    answered_by: str | None = None
    samples: Mapping[str, Any] | None = None

    def difference(self, other: "Provenance[Scorer]") -> str:
        """In words, how another provenance differs from this one; empty if it does not."""
        return difference_in(self._arguments(), other._arguments())

    def with_model(self, model: ModelFingerprint) -> Self:
        """The same, of another model."""
        return replace(self, model=model)

    def with_samples(self, samples: Mapping[str, Any] | None) -> Self:
        """The same, with other answers drawn in this way."""
        return replace(self, samples=samples)

    def _arguments(self) -> dict[str, Any]:
        return {
            **self.model.as_plain(),
            **self.scorer.as_plain(),
            **self.generation,
            **{f"samples.{name}": value for name, value in (self.samples or {}).items()},
            "answered_by": (self.answered_by or "the model itself").casefold(),
        }


def generation_arguments(options: "LabelOptions") -> dict[str, Any]:
    """Arguments of the generation as plain values; the system message only as a hash."""
    sampling, system = options.sampling, options.system
    most = sampling.max_reasoning_tokens
    # Left out if unset: earlier versions do not have it, and it only concerns models that reason.
    reasoning = {} if most is None else {"max_reasoning_tokens": most}
    return {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "stop": list(sampling.stop),
        "system_sha256": sha256(system.encode()).hexdigest() if system is not None else None,
        **reasoning,
        **({"chat_template_kwargs": dict(given)} if (given := options.chat_template_kwargs) else {}),
        # Not of the generation, and answers with it and without must not end up in one file.
        **({DOCUMENT_GAIN: True} if options.document_gain else {}),
        **({"sentences": True} if options.sentences else {}),
    }


def provenance_of(
    options: "LabelOptions", model: "ModelFingerprint | LocalModel"
) -> Provenance[ScorerFingerprint]:
    """The provenance of answers that a run with these options makes."""
    if not isinstance(model, ModelFingerprint):
        model = fingerprint_model(model)
    scorer = fingerprint_scorer(options.scoring)
    return Provenance(model, scorer, generation_arguments(options), options.answered_by)


_LONGEST = 200


class Author(NamedTuple):
    """The author of an answer that was not generated here.

    Attributes:
        name: The author's name.
        doubt: Why the name is not a declaration, for example because nobody made one; empty if it is.
    """

    name: str
    doubt: str = ""


def author_of(given: str | Author | None) -> Author | None:
    """Read a declaration of the author.

    Raises:
        OptionError: It is not a valid name.
    """
    if given is None or isinstance(given, Author):
        return given
    if problem := name_problem(given):
        raise OptionError(f"answered_by {problem}.")
    return Author(given.strip())


def name_problem(name: object) -> str:
    """Why something is not a valid name of a model; empty if it is."""
    if not isinstance(name, str):
        return f"is of type {type(name).__name__}; the name of a model must be text"
    if not name.strip():
        return "is empty; give the name of the model that answered"
    if len(name) > _LONGEST or not name.isprintable():
        return f"is {name[:40]!r}; a name has at most {_LONGEST} characters, all printable"
    return ""


def same_name(one: str, other: str) -> bool:
    """Whether two names are equal apart from case and surrounding white space."""
    return one.strip().casefold() == other.strip().casefold()
