"""What tells one way of scoring from another, as plain values."""

from dataclasses import asdict, dataclass
from typing import Any

from guardrail.scoring.options import Layers, Norm, Reduction, ScoringOptions

__all__ = ["SCORER_VERSION", "ScorerFingerprint", "fingerprint_scorer"]

# Goes up when the same answer gets other numbers than before.
SCORER_VERSION = 1


@dataclass(frozen=True, slots=True)
class ScorerFingerprint:
    """The arguments that change a score, and the version of what computes it.

    Attributes:
        version: Of the scorer.
        semantic_token: Position of t* from the end of the prompt; None for the template's rule.
        reduction: See :class:`ScoringOptions`, like all below.
        norm: Likewise.
        entropy_weight: Likewise.
        layers: Likewise.
        include_tied_embedding: Likewise.
    """

    version: int
    semantic_token: int | None
    reduction: Reduction
    norm: Norm
    entropy_weight: bool
    layers: Layers
    include_tied_embedding: bool

    def as_plain(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)

    def options(self, *, exgrad: bool = True) -> ScoringOptions:
        """The options that score this way."""
        values = asdict(self)
        del values["version"]
        return ScoringOptions(**values, exgrad=exgrad)


def fingerprint_scorer(options: ScoringOptions) -> ScorerFingerprint:
    """Fingerprint a way of scoring; which computation is taken does not change the numbers."""
    return ScorerFingerprint(
        version=SCORER_VERSION,
        semantic_token=options.semantic_token,
        reduction=options.reduction,
        norm=options.norm,
        entropy_weight=options.entropy_weight,
        layers=options.layers,
        include_tied_embedding=options.include_tied_embedding,
    )
