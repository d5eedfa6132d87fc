"""The arguments of a score: the definitions of the paper, its code, and each ablation."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from guardrail.errors import OptionError

Reduction = Literal["mean", "sum"]
Norm = Literal["l1", "l2"]
Layers = Literal["upper", "lower", "last", "all"]
Computation = Literal["short", "plain"]


@dataclass(frozen=True, slots=True)
class ScoringOptions:
    """How a response is scored. The defaults are those of the public code that made the paper's tables.

    Attributes:
        semantic_token: Position of the semantics-preserving token t*, counted from the end of the prompt
            (−1 is its last token); None for the rule that fits the model's chat template.
        reduction: Whether the loss is the mean over response tokens (the code) or their sum (the paper).
        norm: ``l1``, the mean absolute value, or ``l2``, the root mean square, of each gradient.
        entropy_weight: Weigh each token's loss by its entropy; without, SemGrad and ParaGrad are unweighted.
        layers: Decoder layers whose inputs SemGrad looks at.
        include_tied_embedding: Let ParaGrad also collect the input-embedding path of a tied head, as
            autograd on the shared weight does. Needs the plain computation and a V × d gradient.
        exgrad: Also compute ExGrad, which HybridGrad does not need.
        scanned: Whether ``semantic_token`` was found by a scan; told with a score, and changes none.
        computation: ``plain`` to run the whole sequence; by default the short way where it holds.

    Raises:
        OptionError: A value is none of those named here.
    """

    semantic_token: int | None = None
    reduction: Reduction = "mean"
    norm: Norm = "l1"
    entropy_weight: bool = True
    layers: Layers = "upper"
    include_tied_embedding: bool = False
    exgrad: bool = True
    computation: Computation = "short"
    scanned: bool = field(default=False, compare=False)

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
    def semantic_token_source(self) -> Literal["given", "scan", "rule"]:
        """Who says where t* is."""
        if self.semantic_token is None:
            return "rule"
        return "scan" if self.scanned else "given"

    def layer_indices(self, count: int) -> range:
        """The decoder layers whose inputs SemGrad looks at, of a model with this many."""
        half = count - count // 2
        return {
            "upper": range(half, count),
            "lower": range(half),
            "last": range(count - 1, count),
            "all": range(count),
        }[self.layers]
