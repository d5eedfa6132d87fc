"""Scores of parts of a response: each sentence of a long answer by itself.

A segment S has the loss −Σ_{t∈S} ω_t log p_t, or that divided by |S|, in which the prompt and the whole
response before it are given. So the passes start where generation ended, and none runs a token beyond its
segment.

Sentences begin by rules that a reader can check. One ends at a full stop, question or exclamation mark or
ellipsis, with quotes and brackets that close behind it, where a space and no small letter follow (Chinese and
Japanese stops need no space). A line ends one unless the next goes on with a small letter; a fenced block of
code is one sentence. Full stops of abbreviations, initials, numbers and list markers end nothing: where a
rule cannot tell, two sentences stay together, which is the smaller harm to a score of each.
"""

import re
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from guardrail.models.local import LocalModel
from guardrail.models.trace import Trace
from guardrail.scoring.gradients import lay_out_segments
from guardrail.scoring.options import ScoringOptions, Span, check_spans
from guardrail.scoring.score import check_scorable, score_laid_out
from guardrail.scoring.uncertainty import Uncertainty

__all__ = [
    "Span",
    "complete_spans",
    "final_starts",
    "score_segments",
    "sentence_spans",
    "sentence_starts",
    "token_spans",
]


_FENCED = re.compile(r"^[ \t]*(```|~~~).*?(?:^[ \t]*\1[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
_BREAK = re.compile(
    r"(?<![.!?…։؟।॥])(?P<stop>[.!?…։؟।॥]++)[\"'”’»)\]}*_`]*+(?=\s)"
    r"|[。！？｡]+[」』”’）》\"')]*"
    r"|\n\s*\n"
    r"|\n"
)
# What may stand before the first letter of a sentence.
_OPENING = re.compile(r"[\s\"'“‘«(\[{*_`]*")
_LAST_WORD = re.compile(r"[^\s\"'“‘«(\[{*_]*\Z")
# What begins a line that is not the last one going on.
_ITEM = re.compile(r"[ \t]*(?:[-*+•–][ \t]|[^\W_]{1,3}[.)][ \t]|[#>|])")
# A single letter, letters with full stops between them (e.g., U.S.), and common ones.
_ABBREVIATION = re.compile(
    r"[^\W\d_]|(?:[^\W\d_]+\.)+[^\W\d_]+"
    r"|Mrs?|Ms|Drs?|Prof|St|Ste|Sr|Jr|Rev|Hon|Gen|Col|Capt|Lt|Sgt|Gov|Sen|Rep|Pres"
    r"|vs|cf|ca|approx|al|resp|incl|viz|Inc|Ltd|Corp|Co|Mt|Ft|Ave|Blvd|Rd"
    r"|Jan|Feb|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec"
)
_LONGEST_ABBREVIATION = 24
_BEFORE_A_NUMBER = re.compile(r"(?:[Nn]os?|[Ff]igs?|[Ee]qs?|[Ss]ecs?|[Cc]h|[Vv]ol|pp?|[Aa]rt)")
_LIST_MARKER = re.compile(r"[ \t>*_#]*(?:\d{1,3}|[A-Za-z])\Z")


def sentence_starts(text: str) -> list[int]:
    """Index of the first character, which is no space, of each sentence, in order."""
    starts = []
    for start, end in pairwise(_boundaries(text)):
        inside = text[start:end]
        if stripped := inside.lstrip():
            starts.append(start + len(inside) - len(stripped))
    return starts


def token_spans(token_texts: Sequence[str]) -> list[Span]:
    """The sentences of a text as spans of its tokens, which cover all of them and do not overlap.

    A token belongs to the sentence of its first character that is no space; spaces to the sentence before
    them; a token without text (part of a character) to the token that completes it.

    Args:
        token_texts: The text of each token; together they spell the whole.
    """
    if not token_texts:
        return []
    starts = sentence_starts("".join(token_texts))
    firsts: list[int] = []
    at = sentence = begin = 0
    for index, text in enumerate(token_texts):
        if stripped := text.lstrip():
            found = bisect_right(starts, at + len(text) - len(stripped))
            if found > sentence:
                firsts.append(begin)
                sentence = found
        at += len(text)
        if text:
            begin = index + 1
    return [Span(*pair) for pair in pairwise([0, *firsts[1:], len(token_texts)])]


def final_starts(text: str) -> list[int]:
    """Those of :func:`sentence_starts` at which a sentence begins however the text goes on.

    Whether one ends is decided by the first letter of the next, behind spaces, quotes and brackets: once it
    is there, nothing that follows moves the boundary, and none can appear before it.
    """
    return [start for start in sentence_starts(text) if _is_final(text, start)]


def complete_spans(token_texts: Sequence[str]) -> list[Span]:
    """Those of :func:`token_spans` that stay as they are however the text goes on."""
    spans, text = token_spans(token_texts), "".join(token_texts)
    complete: list[Span] = []
    for span, following in pairwise(spans):
        begin = sum(map(len, token_texts[: following.start]))
        if not _is_final(text, begin + len(text[begin:]) - len(text[begin:].lstrip())):
            break
        complete.append(span)
    return complete


def _is_final(text: str, start: int) -> bool:
    opening = _OPENING.match(text, start)
    return opening is not None and opening.end() < len(text)


def _boundaries(text: str) -> Iterator[int]:
    """Where the text is cut; 0 and its length are among these."""
    yield 0
    at = 0
    for block in _FENCED.finditer(text):
        yield from _breaks(text, at, block.start())
        yield block.start()
        yield block.end()
        at = block.end()
    yield from _breaks(text, at, len(text))
    yield len(text)


def _breaks(text: str, start: int, end: int) -> Iterator[int]:
    for found in _BREAK.finditer(text, start, end):
        opening = _OPENING.match(text, found.end())
        following = text[opening.end() : opening.end() + 1] if opening else ""
        if found["stop"] is not None and (
            following.islower() or _is_no_full_stop(text[: found.start()], found["stop"], following)
        ):
            continue
        if found[0] == "\n" and following.islower() and not _ITEM.match(text, found.end()):
            continue
        yield found.end()


def _is_no_full_stop(before: str, stop: str, following: str) -> bool:
    """Whether a stop belongs to an abbreviation, an initial, a number or a list marker."""
    if stop != ".":
        return False
    line = before[before.rfind("\n") + 1 :]
    word = _LAST_WORD.search(line[-_LONGEST_ABBREVIATION:])
    last = word[0] if word else ""
    return bool(
        _LIST_MARKER.match(line)
        or _ABBREVIATION.fullmatch(last)
        or (following.isdigit() and _BEFORE_A_NUMBER.fullmatch(last))
    )


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
    segment.
    """
    start = trace.answer_start
    return [Span(start + span.start, start + span.end) for span in token_spans(trace.answer_texts)]
