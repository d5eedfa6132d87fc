"""An answer with all that the methods go by, and its line in a file of results.

What is slow to come by is in the line: the answer, its scores, other answers drawn, what the model was asked
besides, and what each of these took. Estimates and figures are made of it in seconds, as often as one likes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from typing import Any

from guardrail.calibration.answers import Judgement
from guardrail.calibration.packing import packed, packed_hidden, unpacked, unpacked_hidden
from guardrail.errors import RecordError
from guardrail.evaluation.methods.method import Answered, Sample
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.uncertainty import SemanticToken, TokenScore, Uncertainty, token_weights
from guardrail.utils.json_lines import json_object, kind_of

__all__ = ["Costs", "EvaluatedAnswer", "parse_evaluated"]


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
    answered: Answered
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
    ways = {ScoringOptions(**one["options"]): one for one in values["scored"]}
    answered = Answered(
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
        computation=values["computation"],
        computation_reason=values["computation_reason"],
        score_s=values["seconds"] or 0.0,
    )


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"{kind_of(value)} stands where a finite number is expected")
    return float(value)
