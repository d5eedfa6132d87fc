"""Where sentences begin in an answer, by rules that a reader can check. Needs no torch.

A sentence ends at a full stop, question or exclamation mark or ellipsis, with quotes and brackets that close
behind it, where a space and no small letter follow (Chinese and Japanese stops need no space). A line ends
one unless the next goes on with a small letter; a fenced block of code is one sentence. Full stops of
abbreviations, initials, numbers and list markers end nothing: where a rule cannot tell, two sentences stay
together, which is the smaller harm to a score of each.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

from guardrail.scoring.options import Span

__all__ = ["sentence_starts", "token_spans"]

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
