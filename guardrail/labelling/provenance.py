"""Provenance of answers: which model gave and scored them, and with which arguments."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from guardrail.labelling.questions import LabelOptions, generation_arguments
from guardrail.models.fingerprint import ModelFingerprint, difference_in, fingerprint_model
from guardrail.scoring.options import ScorerFingerprint, fingerprint_scorer

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel

__all__ = ["Provenance", "ScorerVersion", "provenance_of"]


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


def provenance_of(
    options: LabelOptions, model: "ModelFingerprint | LocalModel"
) -> Provenance[ScorerFingerprint]:
    """The provenance of answers that a run with these options makes."""
    if not isinstance(model, ModelFingerprint):
        model = fingerprint_model(model)
    scorer = fingerprint_scorer(options.scoring)
    return Provenance(model, scorer, generation_arguments(options), options.answered_by)
