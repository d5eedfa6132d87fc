"""Where a response stops reasoning and begins to answer.

Models that reason write their thoughts before the answer, between markers: ``<think>…</think>``,
``[THINK]…[/THINK]``, markers of a family's own, or channels (``<|channel|>analysis<|message|>…<|end|>`` and
then ``final``). Which ones a model writes is read from its tokenizer and its chat template; a template may
also open the span itself, at the end of the prompt.

The rules:

- The answer is what stands after the last marker that closes reasoning. What is opened and not closed holds
  no answer: the response was cut off in its reasoning.
- Where a marker is one token, only that token opens or closes. Where it is ordinary text, it opens at the
  beginning of a line, and neither in code nor in quotes.
- A model whose tokenizer and template know no marker reasons only where a response *begins* with a known one.
  In the middle of a response of such a model a marker is text like any other.
- Nothing in a conversation opens or closes a span but what the template writes after it.

Finding the answer in a text needs no torch.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from guardrail.models.reasoning_markers import (
    CHANNEL,
    CODE,
    KNOWN,
    MESSAGE,
    Call,
    Markers,
    SplitResponse,
    Where,
    answer_of,
    any_of,
    is_quoted,
    split_response,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "DEFAULT_REASONING_TOKENS",
    "KNOWN",
    "Call",
    "Division",
    "Markers",
    "Progress",
    "ReasoningFormat",
    "SplitResponse",
    "answer_of",
    "reasoning_format",
    "split_response",
]

# Tokens that a model may reason for where nobody says: a few pages of thought.
DEFAULT_REASONING_TOKENS = 2048

# Markers of families whose names do not say what they are for.
_NAMELESS = (Markers("<|inner_prefix|>", "<|inner_suffix|>"), Markers("<|channel>", "<channel|>"))
# What looks like one in a vocabulary or a template.
_MARKER = re.compile(
    r"(?:<\|?|\[|◁)/?[^<>\[\]◁▷\s'\"|]*?(?:think|thought|reason|scratchpad)[^<>\[\]◁▷\s'\"|]*(?:\|?>|\]|▷)",
    re.IGNORECASE,
)
_BRACKET = re.compile(r"^(?:<\|?|\[|◁)")
_COUNTERPARTS = (("begin", "end"), ("start", "end"), ("open", "close"), ("prefix", "suffix"))


class Progress(NamedTuple):
    """How far a response has come.

    Attributes:
        is_reasoning: Whether it is still, or again, in its reasoning.
        start: The token behind which the reasoning was closed last, 0 where there was none; or None where
            that is not known, and
        answer: the text of the answer up to now is.
    """

    is_reasoning: bool
    start: int | None
    answer: str | None


class Division(NamedTuple):
    """The tokens of a response, divided.

    Attributes:
        start: The answer's first token; that behind the last where there is no answer.
        offset: Characters of that token which are not yet the answer's.
        is_closed: Whether there is an answer: False where the response ended in its reasoning.
    """

    start: int = 0
    offset: int = 0
    is_closed: bool = True


@dataclass(frozen=True, slots=True, weakref_slot=True)
class ReasoningFormat:
    """How a model writes its reasoning.

    Attributes:
        tokens: For markers that are single tokens: the id of each that opens, and of those that close it.
        written: Markers that are ordinary text.
        channels: Whether responses come in channels.
        is_declared: Whether tokenizer or template say that the model reasons.
        ids: The id of each marker, or header of a channel, that is one token.
    """

    tokens: tuple[tuple[int, int], ...] = ()
    written: tuple[Markers, ...] = KNOWN
    channels: bool = False
    is_declared: bool = False
    ids: dict[str, int] = field(default_factory=dict)

    def opens(self, suffix: str) -> bool:
        """Whether a template opens reasoning by what it writes after a conversation."""
        if not self.is_declared:
            return False
        if self.channels:
            return suffix.rfind(f"{CHANNEL}analysis{MESSAGE}") > max(
                suffix.rfind("<|end|>"), suffix.rfind(f"{CHANNEL}final")
            )
        return any(suffix.rfind(one.begin) > suffix.rfind(one.end) for one in self.written)

    @property
    def openings(self) -> tuple[str, ...]:
        """What a prompt ends with that opens reasoning."""
        if self.channels:
            return (f"{CHANNEL}analysis{MESSAGE}",)
        return tuple(one.begin for one in self.written) if self.is_declared else ()

    def divide(
        self, ids: Sequence[int], texts: Callable[[], Sequence[str]], *, opened: bool = False
    ) -> Division:
        """Divide the tokens of a response.

        Args:
            ids: The tokens.
            texts: Gives the text of each; asked where ids alone do not tell.
            opened: Whether the prompt opened the reasoning.
        """
        if self.tokens and not self.channels and (opened or self._holds_markers(ids)):
            return self._by_tokens(ids, texts, opened=opened)
        pieces = texts()
        split = self.split("".join(pieces), opened=opened)
        return _located(pieces, split)

    def split(self, text: str, *, opened: bool = False) -> SplitResponse:
        """Divide a response of this model that is given as text, with its special tokens."""
        where: Where = "line" if self.written is not KNOWN else "leading"
        return split_response(text, self.written, where, opened=opened, channels=self.channels)

    def spelled_in(self, text: str) -> list[tuple[int, int]]:
        """Where a response spells markers that are single tokens, and is neither code nor quotes."""
        if not self.ids:
            return []
        pattern = re.compile(f"{CODE}|{any_of(self.ids)}", re.DOTALL | re.MULTILINE)
        return [
            found.span()
            for found in pattern.finditer(text)
            if found["code"] is None and not is_quoted(text, found)
        ]

    def progress(self, ids: Sequence[int], text: Callable[[], str], *, opened: bool = False) -> Progress:
        """How far a response has come that is not at its end.

        Args:
            ids: Its tokens up to now.
            text: Gives their text, with special tokens; asked where ids alone do not tell.
            opened: Whether the prompt opened the reasoning.
        """
        if self.tokens and not self.channels and (opened or self._holds_markers(ids)):
            start, is_inside = self._last_closed(ids, opened=opened)
            return Progress(is_inside, start, None)
        split = self.split(text(), opened=opened)
        return Progress(not split.is_closed, 0 if split.at == 0 else None, split.answer)

    def may_reason(self, beginning: str, *, opened: bool = False) -> bool:
        """Whether a response that begins like this can hold reasoning: a quick no for models that do not."""
        if opened or self.is_declared:
            return True
        begun = beginning.lstrip().lower()
        if begun.startswith((CHANNEL, "analysis")):
            return True
        return any(begun.startswith(one.begin.lower()) for one in self.written)

    def _by_tokens(self, ids: Sequence[int], texts: Callable[[], Sequence[str]], *, opened: bool) -> Division:
        start, is_inside = self._last_closed(ids, opened=opened)
        if is_inside:
            return Division(len(ids), 0, is_closed=False)
        if start:
            pieces = texts()
            # What separates the answer from the reasoning is no part of it.
            # A piece without text is a part of a character.
            while start < len(ids) - 1 and pieces[start].isspace():
                start += 1
        return Division(start)

    def _holds_markers(self, ids: Sequence[int]) -> bool:
        known = {token for pair in self.tokens for token in pair}
        return any(token in known for token in ids)

    def _last_closed(self, ids: Sequence[int], *, opened: bool) -> tuple[int, bool]:
        """Behind which token reasoning was closed last, and whether it is open again."""
        start, is_inside = 0, opened
        closes = {end for _, end in self.tokens}
        opens = {begin for begin, _ in self.tokens}
        for at, token in enumerate(ids):
            if token in closes:
                start, is_inside = at + 1, False
            elif token in opens:
                is_inside = True
        return start, is_inside


def _located(pieces: Sequence[str], split: SplitResponse) -> Division:
    if not split.is_closed:
        return Division(len(pieces), 0, is_closed=False)
    if split.at == 0:
        return Division()
    begin = first = 0
    for at, piece in enumerate(pieces):
        if begin + len(piece) > split.at:
            # With the pieces before it that have no text yet: a character may be of several tokens.
            return Division(first, split.at - begin)
        begin += len(piece)
        if piece:
            first = at + 1
    # Nothing but the end of the turn, or nothing at all, comes after it.
    return Division(max(0, len(pieces) - 1) if pieces and not pieces[-1] else len(pieces))


_formats: "WeakKeyDictionary[PreTrainedTokenizerBase, tuple[str, ReasoningFormat]]" = WeakKeyDictionary()


def reasoning_format(tokenizer: "PreTrainedTokenizerBase") -> ReasoningFormat:
    """How a model with this tokenizer and chat template writes its reasoning."""
    template = str(tokenizer.chat_template or "")
    known = _formats.get(tokenizer)
    if known is None or known[0] != template:
        known = _formats[tokenizer] = (template, _found(template, dict(tokenizer.get_added_vocab())))
    return known[1]


def _found(template: str, vocabulary: dict[str, int]) -> ReasoningFormat:
    names = {token for token in vocabulary if _MARKER.fullmatch(token)}
    markers = tuple(
        dict.fromkeys([*_pairs(names), *_pairs({*_MARKER.findall(template)}), *_nameless(vocabulary)])
    )
    channels = all(part in vocabulary or part in template for part in (CHANNEL, MESSAGE))
    single = tuple(
        (vocabulary[one.begin], vocabulary[one.end])
        for one in markers
        if one.begin in vocabulary and one.end in vocabulary
    )
    parts = ("<|start|>", "<|end|>", "<|return|>", "<|call|>", "<|constrain|>", CHANNEL, MESSAGE)
    named = [*(marker for pair in markers for marker in pair), *(parts if channels else ())]
    return ReasoningFormat(
        tokens=single,
        written=markers or KNOWN,
        channels=channels,
        is_declared=bool(markers) or channels,
        ids={name: vocabulary[name] for name in named if name in vocabulary},
    )


def _nameless(vocabulary: dict[str, int]) -> Iterator[Markers]:
    return (pair for pair in _NAMELESS if pair.begin in vocabulary and pair.end in vocabulary)


def _pairs(names: set[str]) -> Iterator[Markers]:
    """Markers that belong together by their names."""
    for name in sorted(names):
        for other in _closing(name):
            if other in names:
                yield Markers(name, other)


def _closing(name: str) -> Iterator[str]:
    bracket = _BRACKET.match(name)
    if bracket and "/" not in name:
        yield f"{bracket[0]}/{name[bracket.end() :]}"
    for begin, end in _COUNTERPARTS:
        for as_written in (str, str.upper, str.capitalize):
            if as_written(begin) in name:
                yield name.replace(as_written(begin), as_written(end))
