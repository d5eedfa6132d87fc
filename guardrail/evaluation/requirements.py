"""An answer with all that methods go by, its line in a file of results, and what methods need."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from typing import Any, NamedTuple

from guardrail.errors import OptionError, RecordError
from guardrail.evaluation.methods import AnsweredQuestion, Method, Sample
from guardrail.labelling.answers import Judgement
from guardrail.labelling.observation import packed, packed_hidden, unpacked, unpacked_hidden
from guardrail.labelling.questions import LabelOptions, generation_arguments
from guardrail.models.fingerprint import difference_in
from guardrail.models.sampling import Sampling
from guardrail.scoring.options import SCORER_VERSION, ScoringOptions, computation_named
from guardrail.scoring.uncertainty import SemanticToken, TokenScore, Uncertainty, token_weights
from guardrail.utils.json_lines import json_object, kind_of

__all__ = ["Costs", "EvaluatedAnswer", "EvaluationOptions", "Missing", "Needs", "needs_of", "parse_evaluated"]


@dataclass(frozen=True, slots=True)
class Costs:
    """What an answer took, in seconds of its batch by the answers in that.

    Attributes:
        generate_s: Generating it, with the hooks that keep states for scoring; None where it was given.
        score_s: Scoring it, by the way of scoring.
        samples_s: Drawing other answers.
        asides_s: Asking the model besides.
        score_bytes: Most memory that scoring this answer alone held beyond what was held before, by the way
            of scoring; measured on one answer of a run.
        samples_bytes: Likewise, drawing other answers; None where it was not measured.
        machine: What it ran on, in words.
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
        answered: The answer, and what methods go by.
        accepted: Answers that are right.
        judgement: Whether it is right, and who said so.
        finish_reason: Why it ended.
        costs: What it took.
        maker: What made it: model, generation, and the drawing of samples where there are any.
    """

    digest: str
    answered: AnsweredQuestion
    accepted: Sequence[str]
    judgement: Judgement
    finish_reason: str | None
    costs: Costs
    maker: Mapping[str, Any]

    def judged(self, judgement: Judgement, accepted: Sequence[str]) -> "EvaluatedAnswer":
        """The same answer, judged anew."""
        return replace(self, judgement=judgement, accepted=tuple(accepted))

    def as_plain(self) -> dict[str, Any]:
        """The record as values for JSON."""
        answered, costs = self.answered, self.costs
        return {
            "question": answered.question,
            "messages": [dict(message) for message in answered.messages],
            "response": answered.response,
            "accepted": list(self.accepted),
            "correct": self.judgement.correct,
            "judged_by": self.judgement.judged_by,
            "reason": self.judgement.reason,
            "judge_failed": self.judgement.failed,
            "finish_reason": self.finish_reason,
            "digest": self.digest,
            "tokens": {
                "ids": list(answered.token_ids),
                "texts": list(answered.token_texts),
                "log_probabilities": list(answered.log_probabilities),
                "entropies": list(answered.entropies),
                **({"reasoning_ids": list(answered.reasoning_ids)} if answered.reasoning_ids else {}),
            },
            "scored": [
                {
                    "options": asdict(options),
                    "scores": dict(scored.scores()),
                    "semantic_token": asdict(scored.semantic_token),
                    "computation": scored.computation,
                    "computation_reason": scored.computation_reason,
                    "seconds": costs.score_s.get(options),
                    "bytes": costs.score_bytes.get(options),
                }
                for options, scored in answered.scored.items()
            ],
            "samples": [{**asdict(one), "embedding": packed(one.embedding)} for one in answered.samples],
            "asides": dict(answered.asides),
            "hidden": packed_hidden(answered.hidden),
            "costs": {
                "generate_s": costs.generate_s,
                "samples_s": costs.samples_s,
                "asides_s": costs.asides_s,
                "samples_bytes": costs.samples_bytes,
                "machine": costs.machine,
            },
            "maker": dict(self.maker),
        }


def parse_evaluated(line: str) -> EvaluatedAnswer:
    """Read a record back.

    Raises:
        RecordError: It is none, or a part of it is missing.
    """
    values = json_object(line)
    if not {"scored", "maker", "tokens", "digest"} <= set(values):
        raise RecordError("It is no answer that guardrail evaluate stored.")
    try:
        return _parsed(values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordError(f"A part of it is missing or was changed: {error}.") from error


def _parsed(values: Mapping[str, Any]) -> EvaluatedAnswer:
    correct = values["correct"]
    if correct is not None and not isinstance(correct, bool):
        raise RecordError(f"correct is {kind_of(correct)}; it can be true, false or null.")
    tokens, costs, maker = values["tokens"], values["costs"], values["maker"]
    if "semantic_token" not in maker:
        raise KeyError("semantic_token")
    ways = {_scoring_options(one["options"]): one for one in values["scored"]}
    answered = AnsweredQuestion(
        question=values["question"],
        messages=values["messages"],
        response=values["response"],
        token_ids=tokens["ids"],
        token_texts=tokens["texts"],
        log_probabilities=[_finite(value) for value in tokens["log_probabilities"]],
        entropies=[_finite(value) for value in tokens["entropies"]],
        scored={options: _uncertainty(options, one, tokens) for options, one in ways.items()},
        samples=[Sample(**{**one, "embedding": unpacked(one["embedding"])}) for one in values["samples"]],
        asides={name: _finite(value) for name, value in values["asides"].items()},
        hidden=unpacked_hidden(values["hidden"]),
        reasoning_ids=tokens.get("reasoning_ids", ()),
    )
    return EvaluatedAnswer(
        digest=values["digest"],
        answered=answered,
        accepted=tuple(values["accepted"]),
        judgement=Judgement(correct, values["judged_by"], values["reason"], values["judge_failed"]),
        finish_reason=values["finish_reason"],
        costs=Costs(
            costs["generate_s"],
            {options: one["seconds"] for options, one in ways.items() if one["seconds"] is not None},
            costs["samples_s"],
            costs["asides_s"],
            {options: one["bytes"] for options, one in ways.items() if one["bytes"] is not None},
            costs["samples_bytes"],
            costs["machine"],
        ),
        maker=maker,
    )


def _scoring_options(values: Mapping[str, Any]) -> ScoringOptions:
    return ScoringOptions(**{**values, "computation": computation_named(values["computation"])})


def _uncertainty(
    options: ScoringOptions, values: Mapping[str, Any], tokens: Mapping[str, Any]
) -> Uncertainty:
    scores: dict[str, Any] = {name: _finite(value) for name, value in values["scores"].items()}
    columns = (tokens[name] for name in ("texts", "ids", "log_probabilities", "entropies"))
    return Uncertainty(
        **{"exgrad": None, **scores},
        tokens=tuple(
            TokenScore(*token)
            for token in zip(*columns, token_weights(tokens["entropies"], options), strict=True)
        ),
        semantic_token=SemanticToken(**values["semantic_token"]),
        options=options,
        computation=computation_named(values["computation"]),
        computation_reason=values["computation_reason"],
        score_s=values["seconds"] or 0.0,
    )


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"{kind_of(value)} stands where a finite number is expected")
    return float(value)


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
    """What is not known of an answer yet: ways of scoring it, samples, asides, a hidden state."""

    ways: Sequence[ScoringOptions]
    samples: bool
    asides: Sequence[str]
    hidden: bool

    @property
    def is_nothing(self) -> bool:
        """Whether all is known."""
        return not (self.ways or self.samples or self.asides or self.hidden)


@dataclass(frozen=True, slots=True)
class Needs:
    """What is to be known of each answer.

    Attributes:
        ways: Ways of scoring.
        samples: How other answers are drawn; None for none of them.
        count: How many.
        asides: What the model is asked besides.
        depth: Where a hidden state is kept; None for nowhere.
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
        """What is not known of an answer yet; of None, nothing is."""
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
        """Whether there is an answer, and nothing is missing of it."""
        return record is not None and self.missing(record).is_nothing

    def maker(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """What makes the answers of this run, as plain values; the model's name is among them."""
        drawn = None if self.samples is None else {**asdict(self.samples), "count": self.count}
        if drawn is not None:
            drawn["stop"] = list(drawn["stop"])
        return {
            "model": dict(model),
            "scorer": SCORER_VERSION,
            "semantic_token": self.semantic_token,
            "generation": dict(self.generation),
            "samples": drawn,
        }

    def difference(self, record: EvaluatedAnswer, model: Mapping[str, Any] | None) -> str:
        """What keeps a record from being of this run, in words; empty where nothing does.

        Args:
            record: The record.
            model: The model's fingerprint; None where it is not open, and is not compared.
        """
        made, now = record.maker, self.maker(model or record.maker["model"])
        if self.samples is None or not record.answered.samples:
            now = {**now, "samples": made["samples"]}
        return difference_in(_flat(made), _flat(now))


def needs_of(methods: Iterable[Method], options: EvaluationOptions, token: int | None = None) -> Needs:
    """What these methods need together.

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


def _flat(maker: Mapping[str, Any]) -> dict[str, Any]:
    samples = {f"samples.{name}": value for name, value in (maker["samples"] or {}).items()}
    scorer = {name: maker[name] for name in ("scorer", "semantic_token")}
    return {**maker["model"], **scorer, **maker["generation"], **samples}
