"""How questions are answered and scored for a calibration. Plain values: nothing here needs torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from guardrail.errors import OptionError
from guardrail.models.sampling import Sampling
from guardrail.scoring.options import ScoringOptions

__all__ = ["DEFAULT_DEPTH", "LabelOptions", "generation_arguments"]

# Where a probe read best on SmolLM2: layer 20 of 30, fitted on one set of questions and tried on another.
DEFAULT_DEPTH = 2 / 3


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """How questions are answered and scored.

    Attributes:
        sampling: How answers are generated; greedily by default.
        system: A system message before every conversation that has none.
        scoring: How they are scored.
        depth: Fraction of the layers at which a hidden state is kept for a probe; None for none.
        batch_size: How many questions the model reads at once.
        answered_by: Who gave the answers, if it was not the model.
        chat_template_kwargs: Arguments of the chat template that the model was opened with, for answers that
            are stored: those given under others are not gone on with.

    Raises:
        OptionError: The batch size is less than 1.
    """

    sampling: Sampling = field(default_factory=lambda: Sampling(max_tokens=64))
    system: str | None = None
    scoring: ScoringOptions = field(default_factory=ScoringOptions)
    depth: float | None = DEFAULT_DEPTH
    batch_size: int = 16
    answered_by: str | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise OptionError(f"batch_size is {self.batch_size}; it is at least 1.")


def generation_arguments(options: LabelOptions) -> dict[str, Any]:
    """What answers are generated with, as plain values; of the system message only its hash."""
    sampling, system = options.sampling, options.system
    most = sampling.max_reasoning_tokens
    # Not in the files of earlier versions, and nothing to a model that does not reason.
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
    }
