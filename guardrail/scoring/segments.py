"""Scores of parts of a response: each sentence of a long answer by itself.

A segment S has the loss −Σ_{t∈S} ω_t log p_t, or that divided by |S|, in which the prompt and the whole
response before it are given. So the passes start where generation ended, and none runs a token beyond its
segment.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

from guardrail.models.local import LocalModel
from guardrail.models.trace import Trace
from guardrail.scoring.batch_layout import lay_out_segments
from guardrail.scoring.options import ScoringOptions, Span, check_spans
from guardrail.scoring.score import check_scorable, score_laid_out
from guardrail.scoring.sentences import token_spans
from guardrail.scoring.uncertainty import Uncertainty

__all__ = ["Span", "score_segments", "sentence_spans"]

# On a CPU, where arithmetic is what takes time, each segment is run up to its own end; on a device, where
# reading the weights is, several share a backward pass, and this bounds its memory.
_TOGETHER_ON_A_DEVICE = 8
# Segments are compared with each other: a long sentence is not less sure for being long.
_DEFAULT = ScoringOptions(reduction="mean")


def score_segments(
    model: LocalModel, trace: Trace, spans: Sequence[Span], options: ScoringOptions | None = None
) -> list[Uncertainty]:
    """Compute HybridGrad, and what comes with it, of each segment of a response.

    The segment that is the whole answer has the values of :func:`score` with the same options. The states
    of the trace are kept.

    Args:
        model: The model that the trace came from.
        trace: A response that was generated or read, and not released: score it with ``release=False``.
        spans: Tokens of each segment. They may leave out tokens, and overlap.
        options: How to score them, by default with the mean over the tokens of each; t* is the same token of
            the prompt for all.

    Returns:
        The scores of each segment, in the order given; ``score_s`` is what all of them took together.

    Raises:
        OptionError: A segment is empty or not within the response; or as for :func:`score`.
        ScoringError: The trace was released, or a result is not a number.
    """
    options = options or _DEFAULT
    check_scorable(model, trace, options)
    check_spans(spans, len(trace.response_ids))
    began = time.perf_counter()
    # Models with such a switch read a shorter text with other angles.
    to_the_end = model.anatomy.rope_switch is not None
    scored: list[Uncertainty] = []
    with model.alone():
        step = _together(model)
        for first in range(0, len(spans), step):
            batch = lay_out_segments(trace, spans[first : first + step], options, to_the_end=to_the_end)
            scored += score_laid_out(model, batch, options)
    seconds = time.perf_counter() - began
    return [replace(one, score_s=seconds) for one in scored]


def _together(model: LocalModel) -> int:
    return 1 if model.model.device.type == "cpu" else _TOGETHER_ON_A_DEVICE


def sentence_spans(trace: Trace) -> list[Span]:
    """The sentences of an answer as spans of the response's tokens, which cover it and do not overlap.

    What was thought before the answer is in none of them.

    The end-of-turn token belongs to the last sentence, a list marker to its item, a block of code is one
    segment; see :mod:`guardrail.scoring.sentences`.
    """
    start = trace.answer_start
    return [Span(start + span.start, start + span.end) for span in token_spans(trace.answer_texts)]
