"""An answer with everything that evaluation methods read, and its line in a file of results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field

from guardrail.errors import RecordError
from guardrail.evaluation.methods import AnsweredQuestion, Sample
from guardrail.labelling.answers import Judgement
from guardrail.labelling.provenance import Provenance, ScorerVersion
from guardrail.models.fingerprint import ModelFingerprint
from guardrail.scoring.options import Computation, ScoringOptions, computation_named
from guardrail.scoring.uncertainty import HiddenState, SemanticToken, TokenScore, Uncertainty, token_weights
from guardrail.utils.json_lines import json_object
from guardrail.utils.record_store import FiniteFloat, FrozenModel, StrictBool, read_model

__all__ = ["Costs", "EvaluatedAnswer", "parse_evaluated"]


@dataclass(frozen=True, slots=True)
class Costs:
    """Cost of an answer; seconds are those of its batch, divided by the answers in it.

    Attributes:
        generate_s: Generating it, with the hooks that keep states for scoring; None if it was given.
        score_s: Scoring it, by scoring options.
        samples_s: Drawing other answers.
        asides_s: Asking the model further questions.
        score_bytes: Peak memory of scoring this answer alone, beyond what was held before, by scoring
            options; measured on one answer of a run.
        samples_bytes: Likewise for drawing other answers; None if not measured.
        machine: The machine it ran on, in words.
    """

    generate_s: float | None = None
    score_s: Mapping[ScoringOptions, float] = field(default_factory=dict)
    samples_s: float = 0.0
    asides_s: float = 0.0
    score_bytes: Mapping[ScoringOptions, int] = field(default_factory=dict)
    samples_bytes: int | None = None
    machine: str = ""


@dataclass(frozen=True, slots=True)
class EvaluatedAnswer:
    """One answer of a run.

    Attributes:
        digest: The question's digest.
        answered: The answer, and what methods read.
        accepted: Accepted answers.
        judgement: Whether it is right, and which judge said so.
        finish_reason: Why it ended.
        costs: What it cost.
        provenance: What made it: model, generation, and how samples were drawn where there are any.
    """

    digest: str
    answered: AnsweredQuestion
    accepted: Sequence[str]
    judgement: Judgement
    finish_reason: str | None
    costs: Costs
    provenance: Provenance[ScorerVersion]

    @property
    def correct(self) -> bool | None:
        """Whether it is right, by the judge; files of results are not edited by hand."""
        return self.judgement.correct

    @property
    def is_corrected(self) -> bool:
        """Whether a person changed the label; never here."""
        return False

    def judged(self, judgement: Judgement, accepted: Sequence[str]) -> "EvaluatedAnswer":
        """The same answer with a new judgement."""
        return replace(self, judgement=judgement, accepted=tuple(accepted))

    def as_plain(self) -> dict[str, Any]:
        """The record as values for JSON."""
        line = _EvaluatedLine.of(self).model_dump(by_alias=True)
        if not self.answered.reasoning_ids:
            del line["tokens"]["reasoning_ids"]
        return line


def _named_today(options: Any) -> Any:
    if isinstance(options, Mapping) and "computation" in options:
        return {**options, "computation": computation_named(options["computation"])}
    return options


class _TokensLine(FrozenModel):
    """The tokens of an answer, in columns."""

    ids: list[int]
    texts: list[str]
    log_probabilities: list[FiniteFloat]
    entropies: list[FiniteFloat]
    reasoning_ids: Sequence[int] = ()


class _ScoredLine(FrozenModel):
    """An answer's scores under one set of scoring options, and their cost."""

    options: Annotated[ScoringOptions, BeforeValidator(_named_today)]
    scores: dict[str, FiniteFloat]
    semantic_token: SemanticToken
    computation: Annotated[Computation, BeforeValidator(computation_named)]
    computation_reason: str
    seconds: float | None
    bytes: int | None

    @classmethod
    def of(cls, options: ScoringOptions, scored: Uncertainty, costs: Costs) -> Self:
        """What a line holds of an uncertainty."""
        return cls(
            options=options,
            scores=dict(scored.scores()),
            semantic_token=scored.semantic_token,
            computation=scored.computation,
            computation_reason=scored.computation_reason,
            seconds=costs.score_s.get(options),
            bytes=costs.score_bytes.get(options),
        )

    def uncertainty(self, tokens: _TokensLine) -> Uncertainty:
        """The uncertainty that a line holds."""
        scores: dict[str, Any] = {"exgrad": None, **self.scores}
        weights = token_weights(tokens.entropies, self.options)
        columns = (tokens.texts, tokens.ids, tokens.log_probabilities, tokens.entropies, weights)
        return Uncertainty(
            **scores,
            tokens=tuple(TokenScore(*token) for token in zip(*columns, strict=True)),
            semantic_token=self.semantic_token,
            options=self.options,
            computation=self.computation,
            computation_reason=self.computation_reason,
            score_s=self.seconds or 0.0,
        )


class _CostsLine(FrozenModel):
    """The cost of an answer, without that of its scores, which they state themselves."""

    generate_s: float | None
    samples_s: float
    asides_s: float
    samples_bytes: int | None
    machine: str


class _ProvenanceLine(FrozenModel):
    """What made an answer. ``scorer`` is the version of the scorer."""

    model: ModelFingerprint
    scorer: int
    semantic_token: int | None
    generation: dict[str, Any]
    samples: dict[str, Any] | None

    def provenance(self) -> Provenance[ScorerVersion]:
        """The provenance that a line holds."""
        scorer = ScorerVersion(self.scorer, self.semantic_token)
        return Provenance(self.model, scorer, self.generation, samples=self.samples)


class _EvaluatedLine(FrozenModel):
    """A line of a file of results."""

    question: str
    messages: list[dict[str, Any]]
    response: str
    accepted: list[str]
    correct: StrictBool | None
    judged_by: str | None
    reason: str
    judge_failed: StrictBool
    finish_reason: str | None
    digest: str
    tokens: _TokensLine
    scored: list[_ScoredLine]
    samples: list[Sample]
    asides: dict[str, FiniteFloat]
    hidden: HiddenState | None
    costs: _CostsLine
    # Files have always had it under this name.
    provenance: _ProvenanceLine = Field(alias="maker")

    @classmethod
    def of(cls, record: EvaluatedAnswer) -> Self:
        """The line of an answer."""
        answered, judgement, costs, made = record.answered, record.judgement, record.costs, record.provenance
        return cls(
            question=answered.question,
            messages=[dict(message) for message in answered.messages],
            response=answered.response,
            accepted=list(record.accepted),
            correct=judgement.correct,
            judged_by=judgement.judged_by,
            reason=judgement.reason,
            judge_failed=judgement.failed,
            finish_reason=record.finish_reason,
            digest=record.digest,
            tokens=_TokensLine(
                ids=list(answered.token_ids),
                texts=list(answered.token_texts),
                log_probabilities=list(answered.log_probabilities),
                entropies=list(answered.entropies),
                reasoning_ids=list(answered.reasoning_ids),
            ),
            scored=[_ScoredLine.of(options, scored, costs) for options, scored in answered.scored.items()],
            samples=list(answered.samples),
            asides=dict(answered.asides),
            hidden=answered.hidden,
            costs=_CostsLine(
                generate_s=costs.generate_s,
                samples_s=costs.samples_s,
                asides_s=costs.asides_s,
                samples_bytes=costs.samples_bytes,
                machine=costs.machine,
            ),
            maker=_ProvenanceLine(
                model=made.model,
                scorer=made.scorer.version,
                semantic_token=made.scorer.semantic_token,
                generation=dict(made.generation),
                samples=None if made.samples is None else dict(made.samples),
            ),
        )

    def record(self) -> EvaluatedAnswer:
        """The answer that the line holds."""
        tokens, costs = self.tokens, self.costs
        answered = AnsweredQuestion(
            question=self.question,
            messages=self.messages,
            response=self.response,
            token_ids=tokens.ids,
            token_texts=tokens.texts,
            log_probabilities=tokens.log_probabilities,
            entropies=tokens.entropies,
            scored={one.options: one.uncertainty(tokens) for one in self.scored},
            samples=self.samples,
            asides=self.asides,
            hidden=self.hidden,
            reasoning_ids=tokens.reasoning_ids,
        )
        return EvaluatedAnswer(
            digest=self.digest,
            answered=answered,
            accepted=tuple(self.accepted),
            judgement=Judgement(self.correct, self.judged_by, self.reason, self.judge_failed),
            finish_reason=self.finish_reason,
            costs=Costs(
                costs.generate_s,
                {one.options: one.seconds for one in self.scored if one.seconds is not None},
                costs.samples_s,
                costs.asides_s,
                {one.options: one.bytes for one in self.scored if one.bytes is not None},
                costs.samples_bytes,
                costs.machine,
            ),
            provenance=self.provenance.provenance(),
        )


def parse_evaluated(line: str) -> EvaluatedAnswer:
    """Read a record back.

    Raises:
        RecordError: It is not a record, or part of it is missing or altered.
    """
    values = json_object(line)
    if not {"scored", "maker", "tokens", "digest"} <= set(values):
        raise RecordError("It is no answer that guardrail evaluate stored.")
    read = read_model(_EvaluatedLine, values)
    try:
        return read.record()
    except (TypeError, ValueError) as error:
        # Columns of unequal length, or an unknown score.
        raise RecordError(f"A part of it is missing or was changed: {error}.") from error
