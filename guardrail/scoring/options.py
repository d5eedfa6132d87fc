"""Options of a score, spans of a response, the fingerprint of a scorer. Nothing here needs torch."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from guardrail.errors import OptionError
from guardrail.utils.text import takes_no_others

__all__ = [
    "SCORER_VERSION",
    "Combination",
    "ScorerFingerprint",
    "ScoringOptions",
    "Span",
    "check_spans",
    "computation_named",
    "fingerprint_scorer",
]


Reduction = Literal["mean", "sum"]
Combination = Literal["worst", "mean", "last"]
Norm = Literal["l1", "l2"]
Layers = Literal["upper", "lower", "last", "all"]
Computation = Literal["truncated", "full"]

# Their names in files that earlier versions wrote.
_FORMER_COMPUTATIONS: dict[str, Computation] = {"short": "truncated", "plain": "full"}


@takes_no_others
@dataclass(frozen=True, slots=True)
class ScoringOptions:
    """How a response is scored. The defaults are those of the paper's text.

    Attributes:
        semantic_token: Position of the semantics-preserving token t*, counted from the end of the prompt
            (−1 is its last token); None for the rule that fits the model's chat template. What is known of a
            model beyond the rule is in :func:`guardrail.with_known_token`.
        reduction: Whether the loss is the sum over response tokens (the paper's text) or their mean (its
            public code).
        norm: ``l1``, the mean absolute value, or ``l2``, the root mean square, of each gradient.
        entropy_weight: Weigh each token's loss by its entropy; without, SemGrad and ParaGrad are unweighted.
        layers: Decoder layers whose inputs SemGrad looks at.
        include_tied_embedding: Let ParaGrad also collect the input-embedding path of a tied head, as
            autograd on the shared weight does. Needs the full backward and a V × d gradient.
        exgrad: Also compute ExGrad, which HybridGrad does not need.
        known: Whether ``semantic_token`` is what is known of the model; told with a score, and changes none.
        computation: ``truncated``, to run and differentiate only what follows t* where the architecture
            allows that; or ``full``, to run the whole sequence.

    Raises:
        OptionError: A value is none of those named here.
    """

    semantic_token: int | None = None
    reduction: Reduction = "sum"
    norm: Norm = "l1"
    entropy_weight: bool = True
    layers: Layers = "upper"
    include_tied_embedding: bool = False
    exgrad: bool = True
    computation: Computation = "truncated"
    known: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        for name, values in (
            ("reduction", get_args(Reduction)),
            ("norm", get_args(Norm)),
            ("layers", get_args(Layers)),
            ("computation", get_args(Computation)),
        ):
            if getattr(self, name) not in values:
                raise OptionError(f"{name} is {getattr(self, name)!r}; it can be {' or '.join(values)}.")
        if self.semantic_token is not None and self.semantic_token >= 0:
            raise OptionError(
                f"semantic_token is {self.semantic_token}; it counts from the end of the prompt: −1 is "
                "its last token."
            )

    @property
    def semantic_token_source(self) -> Literal["given", "known", "rule"]:
        """Who says where t* is."""
        if self.semantic_token is None:
            return "rule"
        return "known" if self.known else "given"

    def layer_indices(self, count: int) -> range:
        """The decoder layers whose inputs SemGrad looks at, of a model with this many."""
        half = count - count // 2
        return {
            "upper": range(half, count),
            "lower": range(half),
            "last": range(count - 1, count),
            "all": range(count),
        }[self.layers]


def computation_named(name: Any) -> Any:
    """Today's name of the computation that a stored file names; whatever else stands there as it is."""
    return _FORMER_COMPUTATIONS.get(name, name) if isinstance(name, str) else name


class Span(NamedTuple):
    """Token indices of a response, from ``start`` up to, without, ``end``."""

    start: int
    end: int


def check_spans(spans: Sequence[Span], tokens: int) -> None:
    """See that every span lies within a response of so many tokens and holds at least one of them.

    Raises:
        OptionError: One does not.
    """
    for at, (start, end) in enumerate(spans):
        if not 0 <= start < end <= tokens:
            raise OptionError(
                f"Segment {at} is tokens {start} to {end} (exclusive) of a response of {tokens}; a segment "
                f"holds at least one token and lies between 0 and {tokens}."
            )


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
        """The options that score like this."""
        values = asdict(self)
        del values["version"]
        return ScoringOptions(**values, exgrad=exgrad)


def fingerprint_scorer(options: ScoringOptions) -> ScorerFingerprint:
    """Fingerprint how a response is scored; which backward is taken does not change the numbers."""
    return ScorerFingerprint(
        version=SCORER_VERSION,
        semantic_token=options.semantic_token,
        reduction=options.reduction,
        norm=options.norm,
        entropy_weight=options.entropy_weight,
        layers=options.layers,
        include_tied_embedding=options.include_tied_embedding,
    )
