"""Sentences of an answer: each with scores of its own, and labelled by hand.

What is said of a whole answer says nothing of its sentences: a wrong one may have three right sentences. So
no judge labels them here. They stand in the file of answers, where a person fills in ``correct``; a sentence
that claims nothing may stay without, and does not count.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from guardrail.scoring.uncertainty import Observation
from guardrail.utils.record_store import FiniteFloat, FrozenModel, StrictBool

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel
    from guardrail.models.trace import Trace
    from guardrail.scoring.options import ScoringOptions

__all__ = ["SentenceRecord", "sentence_records"]


class SentenceRecord(FrozenModel):
    """A sentence of an answer, as a file of answers holds it.

    Attributes:
        text: The sentence.
        correct: Whether it is right; None where nobody says, or it claims nothing.
        tokens: How many tokens it has.
        uncertainty: Its scores by name, given the prompt and all of the answer before it.
    """

    text: str
    correct: StrictBool | None = None
    tokens: int
    uncertainty: Mapping[str, FiniteFloat]

    @property
    def observation(self) -> Observation:
        """What is known of it; no hidden state is kept of a part."""
        return Observation({**self.uncertainty, "tokens": float(self.tokens)})


def sentence_records(
    model: "LocalModel", trace: "Trace", options: "ScoringOptions"
) -> tuple[SentenceRecord, ...]:
    """Score the sentences of an answer whose trace is not released.

    Args:
        model: The model.
        trace: The answer.
        options: How each of them is scored.

    Raises:
        ScoringError: A result is not a number.
    """
    # Not before there is a model: what reads records of answers loads no torch.
    from guardrail.models.decoding import decode
    from guardrail.scoring.segments import score_segments, sentence_spans

    spans = sentence_spans(trace)
    scores = score_segments(model, trace, spans, options)
    return tuple(
        SentenceRecord(
            text=decode(model.tokenizer, trace.response_ids[start:end], skip_special_tokens=True).strip(),
            tokens=end - start,
            uncertainty=one.scores(),
        )
        for (start, end), one in zip(spans, scores, strict=True)
    )
