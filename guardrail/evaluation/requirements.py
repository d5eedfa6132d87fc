"""What methods of evaluation need to know about an answer, and how questions are answered for them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from guardrail.errors import OptionError
from guardrail.evaluation.evaluated_answers import EvaluatedAnswer
from guardrail.evaluation.methods import Method
from guardrail.labelling.provenance import Provenance, ScorerVersion, generation_arguments
from guardrail.labelling.questions import LabelOptions
from guardrail.models.fingerprint import ModelFingerprint
from guardrail.models.sampling import Sampling
from guardrail.scoring.options import SCORER_VERSION, ScoringOptions

__all__ = ["EvaluationOptions", "Missing", "Needs", "needs_of"]


@dataclass(frozen=True, slots=True)
class EvaluationOptions:
    """How questions are answered.

    Attributes:
        sampling: How the answers that are judged are generated.
        system: A system message before every conversation that has none.
        batch_size: How many questions the model reads at once.
        samples: How many other answers are drawn, where a method needs them.
        chat_template_kwargs: Arguments of the chat template that the model was opened with.

    Raises:
        OptionError: A number is out of its range.
    """

    sampling: Sampling
    system: str | None = None
    batch_size: int = 16
    samples: int = 10
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise OptionError(f"batch_size is {self.batch_size}; it is at least 1.")
        if self.samples < 2:
            raise OptionError(f"samples is {self.samples}; methods compare at least 2.")

    @property
    def generation(self) -> dict[str, Any]:
        """What the answers that are judged are generated with, as plain values."""
        return generation_arguments(
            LabelOptions(
                sampling=self.sampling,
                system=self.system,
                chat_template_kwargs=self.chat_template_kwargs,
            )
        )


class Missing(NamedTuple):
    """What is still unknown about an answer: ways of scoring it, samples, asides, a hidden state."""

    ways: Sequence[ScoringOptions]
    samples: bool
    asides: Sequence[str]
    hidden: bool

    @property
    def is_nothing(self) -> bool:
        """Whether everything is known."""
        return not (self.ways or self.samples or self.asides or self.hidden)


@dataclass(frozen=True, slots=True)
class Needs:
    """What must be known about each answer.

    Attributes:
        ways: Ways of scoring.
        samples: How other answers are drawn; None to draw none.
        count: How many are drawn.
        asides: Further questions to the model, by name.
        depth: Fraction of the layers at which a hidden state is kept; None for none.
        semantic_token: t* of gradients that name none; None for the rule of the model's chat template.
        generation: Arguments that answers are generated with.
    """

    ways: Sequence[ScoringOptions]
    samples: Sampling | None
    count: int
    asides: Sequence[str]
    depth: float | None
    semantic_token: int | None
    generation: Mapping[str, Any]

    def missing(self, record: EvaluatedAnswer | None) -> Missing:
        """What is still unknown about an answer; for None, everything."""
        if record is None:
            return Missing(self.ways, self.samples is not None, self.asides, self.depth is not None)
        answered = record.answered
        return Missing(
            [way for way in self.ways if way not in answered.scored],
            self.samples is not None and not answered.samples,
            [name for name in self.asides if name not in answered.asides],
            self.depth is not None and (answered.hidden is None or answered.hidden.depth != self.depth),
        )

    def are_met(self, record: EvaluatedAnswer | None) -> bool:
        """Whether there is an answer, and nothing about it is missing."""
        return record is not None and self.missing(record).is_nothing

    def provenance(self, model: ModelFingerprint) -> Provenance[ScorerVersion]:
        """The provenance of the answers of this run."""
        drawn = None if self.samples is None else {**asdict(self.samples), "count": self.count}
        if drawn is not None:
            drawn["stop"] = list(drawn["stop"])
        scorer = ScorerVersion(SCORER_VERSION, self.semantic_token)
        return Provenance(model, scorer, self.generation, samples=drawn)

    def difference(self, record: EvaluatedAnswer, model: ModelFingerprint | None) -> str:
        """In words, what keeps a record from being of this run; empty if nothing does.

        Args:
            record: The record.
            model: The model; None where it is not open, and is not compared.
        """
        made = record.provenance
        now = self.provenance(model or made.model)
        if self.samples is None or not record.answered.samples:
            now = now.with_samples(made.samples)
        return made.difference(now)


def needs_of(methods: Iterable[Method], options: EvaluationOptions, token: int | None = None) -> Needs:
    """What these methods together need.

    Args:
        methods: The methods.
        options: How questions are answered.
        token: t* of the gradients among them that name none; None for the rule of the model's chat template.

    Raises:
        OptionError: Two of them need samples drawn in different ways, or hidden states at different depths.
    """
    methods = list(methods)
    limit = options.sampling.max_tokens
    drawn = {replace(one.samples, max_tokens=limit): one for one in methods if one.samples is not None}
    depths = {one.depth: one for one in methods if one.depth is not None}
    for what, kinds in (("samples", drawn), ("a hidden state", depths)):
        if len(kinds) > 1:
            one, other, *_ = kinds.values()
            raise OptionError(f"{one.name} and {other.name} need {what} of different kinds: run one by one.")
    return Needs(
        ways=list(dict.fromkeys(way for one in methods for way in one.options)),
        samples=next(iter(drawn), None),
        count=options.samples,
        asides=list(dict.fromkeys(name for one in methods for name in one.asides)),
        depth=next(iter(depths), None),
        semantic_token=token,
        generation=options.generation,
    )
