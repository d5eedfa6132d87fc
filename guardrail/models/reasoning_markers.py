"""Reasoning in the text of a response: markers, channels, and what of it is the answer.

The rules are those of :mod:`guardrail.models.reasoning`. Nothing here needs torch or a tokenizer.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

__all__ = [
    "CHANNEL",
    "KNOWN",
    "MESSAGE",
    "Call",
    "Markers",
    "SplitResponse",
    "Where",
    "answer_of",
    "split_response",
]


Where = Literal["anywhere", "line", "leading"]


class Markers(NamedTuple):
    """What opens reasoning, and what closes it."""

    begin: str
    end: str


# Those that a response is known to reason by where nothing is known of who wrote it.
KNOWN = (
    Markers("<think>", "</think>"),
    Markers("<thinking>", "</thinking>"),
    Markers("<thought>", "</thought>"),
    Markers("<reasoning>", "</reasoning>"),
    Markers("[THINK]", "[/THINK]"),
    Markers("<seed:think>", "</seed:think>"),
    Markers("◁think▷", "◁/think▷"),
    Markers("<|START_THINKING|>", "<|END_THINKING|>"),
    Markers("<|begin_of_thought|>", "<|end_of_thought|>"),
    Markers("<|inner_prefix|>", "<|inner_suffix|>"),
)
# Markers of families whose names do not say what they are for.

CHANNEL, MESSAGE = "<|channel|>", "<|message|>"
# One message of a response in channels. The role of the first is written by the prompt.
_CHANNELLED = re.compile(
    r"(?:<\|start\|>|\A)(?P<role>[^<]*)"
    r"<\|channel\|>\s*(?P<channel>\w+)(?P<header>[^<]*(?:<\|constrain\|>[^<]*)?)<\|message\|>"
    r"(?P<content>.*?)"
    r"(?:<\|end\|>|<\|return\|>|<\|call\|>|(?=<\|start\|>)|(?=<\|channel\|>)|\Z)",
    re.DOTALL,
)
_RECIPIENT = re.compile(r"\bto=(?P<name>\S+)")
_BEGINS_CHANNELS = re.compile(r"\s*(?:<\|start\|>[^<]*|(?:assistant)?\s*to=[^<]*)?<\|channel\|>")
# The same, decoded without its special tokens.
_CHANNELS_AS_WORDS = re.compile(r"\A\s*analysis(?P<thoughts>.*)assistant(?:final|commentary)", re.DOTALL)

_FENCE = r"^[ \t]*(?P<fence>```|~~~).*?^[ \t]*(?P=fence)[ \t]*$"
CODE = rf"(?P<code>{_FENCE}|`[^`\n]+`)"
_QUOTES = ("\"'`“‘«", "\"'`”’»")


class Call(NamedTuple):
    """A call of a tool that a response in channels makes.

    Attributes:
        recipient: Who it is addressed to, such as ``functions.add``.
        content: Its arguments.
        written: The whole message.
    """

    recipient: str
    content: str
    written: str


class SplitResponse(NamedTuple):
    """The text of a response, divided.

    Attributes:
        reasoning: What was thought, without markers.
        answer: What stands after it.
        at: Index of the answer's first character in the text.
        is_closed: Whether there is an answer at all: False where the response ended in its reasoning.
        calls: Calls of tools, for responses in channels only; elsewhere they are a part of the answer.
    """

    reasoning: str
    answer: str
    at: int
    is_closed: bool = True
    calls: tuple[Call, ...] = ()


def answer_of(text: str) -> str:
    """The answer in a response of any model: without its reasoning, empty where there is nothing else."""
    return split_response(text).answer


def split_response(
    text: str,
    markers: Sequence[Markers] = KNOWN,
    where: Where = "line",
    *,
    opened: bool = False,
    channels: bool = False,
) -> SplitResponse:
    """Divide the text of a response.

    Args:
        text: The response; or the response of a model that is not known, decoded in whatever way.
        markers: What opens and closes reasoning.
        where: Where markers count: ``anywhere``, ``line`` (they open at the beginning of a line), or
            ``leading`` (they open at the beginning of the response alone, and close what they opened).
        opened: Whether the prompt opened the reasoning.
        channels: Whether the model is known to answer in channels; without, that is seen by how it begins.
    """
    if (opened or CHANNEL in text) if channels else _BEGINS_CHANNELS.match(text):
        return _split_channels(text, opened=opened)
    if not opened and (words := _CHANNELS_AS_WORDS.match(text)):
        return _divided(text, words.end(), words["thoughts"].strip())
    spans, at, is_closed = _scan(text, markers, where, opened=opened)
    thoughts = "\n\n".join(filter(None, (text[start:end].strip() for start, end in spans)))
    if not is_closed:
        return SplitResponse(thoughts, "", len(text), is_closed=False)
    return _divided(text, at, thoughts)


def _divided(text: str, at: int, thoughts: str) -> SplitResponse:
    if at:
        # What separates the answer from the reasoning is no part of it.
        at = len(text) - len(text[at:].lstrip())
    return SplitResponse(thoughts, text[at:], at)


def _scan(
    text: str, markers: Sequence[Markers], where: Where, *, opened: bool
) -> tuple[list[tuple[int, int]], int, bool]:
    """Spans of reasoning without their markers, where the answer begins, and whether there is one."""
    begins = {one.begin.lower(): one.end for one in markers}
    ends = {one.end.lower() for one in markers}
    any_begin, any_end = any_of(begins), any_of(ends)
    outside = re.compile(
        f"{CODE}|(?P<begin>{any_begin})|(?P<end>{any_end})",
        re.IGNORECASE | re.DOTALL | re.MULTILINE,
    )
    spans: list[tuple[int, int]] = []
    at = position = 0
    inside = re.compile(any_end, re.IGNORECASE) if opened else None
    while True:
        if inside is not None:
            closing = next((m for m in inside.finditer(text, position) if not is_quoted(text, m)), None)
            if closing is None:
                return [*spans, (position, len(text))], len(text), False
            spans.append((position, closing.start()))
            at = position = closing.end()
            inside = None
            continue
        found = outside.search(text, position)
        if found is None:
            return spans, at, True
        position = found.end()
        if found["code"] is not None or is_quoted(text, found):
            continue
        if found["begin"] is not None:
            if _opens(text, found.start(), at, where):
                inside = re.compile(re.escape(begins[found["begin"].lower()]), re.IGNORECASE)
        elif where != "leading" or at:
            # It closes what nothing opened here: what stands before it is no answer.
            spans.append((at, found.start()))
            at = found.end()


def _opens(text: str, start: int, at: int, where: Where) -> bool:
    if where == "anywhere" or not text[at:start].strip():
        return True
    return where == "line" and not text[text.rfind("\n", 0, start) + 1 : start].strip()


def is_quoted(text: str, found: re.Match[str]) -> bool:
    before, after = text[: found.start()][-1:], text[found.end() :][:1]
    return bool(before and after) and before in _QUOTES[0] and after in _QUOTES[1]


def any_of(markers: Iterable[str]) -> str:
    longest_first = sorted(markers, key=len, reverse=True)
    return "|".join(map(re.escape, longest_first)) or r"(?!)"


def _split_channels(text: str, *, opened: bool) -> SplitResponse:
    """Only the channels ``final`` and ``commentary`` answer, after the last message of ``analysis``."""
    prefix = f"{CHANNEL}analysis{MESSAGE}" if opened else ""
    messages = [*_CHANNELLED.finditer(prefix + text)]
    last = max((at for at, one in enumerate(messages) if one["channel"] == "analysis"), default=-1)
    thoughts = [one["content"].strip() for one in messages if one["channel"] == "analysis"]
    shown: list[str] = []
    calls: list[Call] = []
    start: int | None = None
    for one in messages[last + 1 :]:
        recipient = _RECIPIENT.search(f"{one['role']} {one['header']}")
        if one["channel"] not in ("final", "commentary"):
            continue
        if recipient is not None:
            calls.append(Call(recipient["name"], one["content"], one[0]))
        else:
            shown.append(one["content"])
        if start is None:
            start = one.start() if recipient is not None else one.start("content")
    reasoning = "\n\n".join(filter(None, thoughts))
    if start is None:
        return SplitResponse(reasoning, "", len(text), is_closed=False)
    return SplitResponse(
        reasoning, "\n\n".join(filter(None, shown)), max(0, start - len(prefix)), True, tuple(calls)
    )
