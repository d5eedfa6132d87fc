"""The sentences of an answer, each with scores of its own."""

import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel
    from guardrail.models.trace import Trace
    from guardrail.scoring.options import ScoringOptions
    from guardrail.scoring.uncertainty import Uncertainty

__all__ = ["ScoredSentence", "SentenceScores", "score_sentences"]


class ScoredSentence(NamedTuple):
    """A sentence of an answer.

    Attributes:
        start: Its first token, counted within the answer.
        end: The token behind its last.
        uncertainty: Its scores, of the mean over its tokens, so that sentences of any length compare.
    """

    start: int
    end: int
    uncertainty: "Uncertainty"


class SentenceScores(NamedTuple):
    """The sentences of an answer, in its order; none where it is a single one.

    Attributes:
        sentences: Each with its scores.
        seconds: What all of them took.
    """

    sentences: tuple[ScoredSentence, ...] = ()
    seconds: float = 0.0


def score_sentences(model: "LocalModel", trace: "Trace", options: "ScoringOptions") -> SentenceScores:
    """Score the sentences of an answer, whose trace is not released, if it has several.

    Args:
        model: The model.
        trace: The answer.
        options: How the whole of it is scored.

    Raises:
        ScoringError: A result is not a number.
    """
    from guardrail.scoring.segments import score_segments, sentence_spans

    began = time.perf_counter()
    spans = sentence_spans(trace)
    if len(spans) < 2:
        return SentenceScores()
    scores = score_segments(model, trace, spans, replace(options, reduction="mean"))
    first = trace.answer_start
    sentences = tuple(
        ScoredSentence(span.start - first, span.end - first, one)
        for span, one in zip(spans, scores, strict=True)
    )
    return SentenceScores(sentences, time.perf_counter() - began)
