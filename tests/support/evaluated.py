"""Answers as methods see them, of literal numbers."""

from dataclasses import replace

from guardrail.evaluation.evaluated_answers import Costs, EvaluatedAnswer
from guardrail.evaluation.methods import AnsweredQuestion
from guardrail.labelling.answers import Judgement
from guardrail.labelling.provenance import Provenance, ScorerVersion
from guardrail.models.fingerprint import ModelFingerprint

PROVENANCE = Provenance(
    ModelFingerprint("tiny", "0" * 64, None, "float32", None), ScorerVersion(1, None), {"max_tokens": 8}
)


def answered(entropies=(1.0, 2.0), log_probabilities=(-0.5, -1.5), question="Why?", **others):
    count = len(entropies)
    made = AnsweredQuestion(
        question=question,
        messages=[{"role": "user", "content": question}],
        response="x" * count,
        token_ids=list(range(count)),
        token_texts=["x"] * count,
        log_probabilities=list(log_probabilities),
        entropies=list(entropies),
        scored={},
    )
    return replace(made, **others)


def record(correct, digest="0", costs=None, **others):
    return EvaluatedAnswer(
        digest=digest,
        answered=answered(**others),
        accepted=("x",),
        judgement=Judgement(correct, "contains"),
        finish_reason="stop",
        costs=costs or Costs(),
        provenance=PROVENANCE,
    )
