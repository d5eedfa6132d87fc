"""Control tokens come from the chat template alone: what people, documents and tools say is only ever text.

A tokenizer finds its control tokens (``<|im_end|>``, ``[INST]``, ``</s>``) wherever they are spelled. Here
they are looked for in what goes into a prompt or a response. Where the tokenizer would find one, the
characters are tokenized in two pieces, so that the model reads them as they were typed; all other text is
tokenized as ever. What a template marks with plain text alone (``USER:``) cannot be told from a message that
says the same.

transformers' ``sanitize_control_tokens`` does this for whole tokens in a rendered conversation. It is of no
help for responses and base models, for keys of objects, for tokens that only a normaliser brings about
(full-width brackets), nor where two pieces are a token together.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from guardrail.errors import PromptError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "ControlTokens",
    "Marks",
    "Region",
    "control_tokens",
    "encode_text",
    "encode_with",
    "without_beginnings",
]

# Private-use characters: two that a conversation does not hold stand around what is to be text.
_MARKS = range(0xE000, 0xF8FF)
# Templates compare these, and make tokens of roles.
_ROLES = frozenset(
    ("system", "developer", "user", "assistant", "model", "tool", "function", "ipython", "observation")
)


class Region(NamedTuple):
    """Characters that must not be (part of) a control token; an empty one is a place where none may go on."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class ControlTokens:
    """The control tokens of a tokenizer: its special tokens, and all that was added to it but plain words.

    Attributes:
        ids: Their ids.
        unknown: Id and spelling of the token for what the vocabulary lacks, which ordinary text may become.
        spellings: How they are written, without their case: some templates and normalisers change it.
        lengths: The lengths of these, longest first.
        firsts: Their first characters.
        beginnings: Their proper beginnings.
        endings: Their proper endings.
    """

    ids: frozenset[int]
    unknown: tuple[int, str] | None
    spellings: frozenset[str]
    lengths: tuple[int, ...]
    firsts: frozenset[str]
    beginnings: frozenset[str]
    endings: frozenset[str]

    def found_in(self, text: str) -> list[Region]:
        """Where a text spells control tokens."""
        text = _without_case(text)
        found: list[Region] = []
        at = 0
        while at < len(text):
            size = 0
            if text[at] in self.firsts:
                pieces = (text[at : at + size] for size in self.lengths)
                size = next((len(piece) for piece in pieces if piece in self.spellings), 0)
                found += [Region(at, at + size)] if size else []
            at += size or 1
        return found

    def goes_on_before(self, text: str) -> bool:
        """Whether a text begins with the ending of a control token."""
        text = _without_case(text[: self.lengths[0]]) if self.lengths else ""
        return any(text[:size] in self.endings for size in range(1, len(text) + 1))

    def goes_on_behind(self, text: str) -> bool:
        """Whether a text ends with the beginning of a control token."""
        text = _without_case(text[-self.lengths[0] :]) if self.lengths else ""
        return any(text[-size:] in self.beginnings for size in range(1, len(text) + 1))


_known: "WeakKeyDictionary[PreTrainedTokenizerBase, tuple[int, ControlTokens]]" = WeakKeyDictionary()


def control_tokens(tokenizer: "PreTrainedTokenizerBase") -> ControlTokens:
    """The control tokens of a tokenizer."""
    size = len(tokenizer)
    known = _known.get(tokenizer)
    if known is None or known[0] != size:
        known = _known[tokenizer] = size, _control_tokens(tokenizer)
    return known[1]


def encode_text(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Token ids of what is nothing but text.

    Raises:
        PromptError: It spells a control token that this tokenizer cannot write in any other way.
    """
    return encode_with(tokenizer, text, [Region(0, len(text))])


def encode_with(tokenizer: "PreTrainedTokenizerBase", text: str, regions: Sequence[Region]) -> list[int]:
    """Token ids of a text of which these regions are nothing but text; beside them are control tokens.

    Args:
        tokenizer: The tokenizer.
        text: The text.
        regions: The regions, in order; none overlaps another.

    Raises:
        PromptError: As for :func:`encode_text`.
    """
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if not regions or control_tokens(tokenizer).ids.isdisjoint(ids):
        return ids
    finished: dict[int, list[int]] = {}
    pieces = [Region(0, len(text))]
    while pieces:
        read, divided = _read(tokenizer, text, pieces), []
        for piece, (ids, found) in zip(pieces, read, strict=True):
            cuts = {cut for token in found for cut in _cuts(text, token, regions)}
            if cuts:
                divided += [Region(*ends) for ends in pairwise([piece.start, *sorted(cuts), piece.end])]
            else:
                finished[piece.start] = ids
        pieces = divided
    return [token for start in sorted(finished) for token in finished[start]]


def _cuts(text: str, token: Region, regions: Sequence[Region]) -> Iterator[int]:
    """Where a control token has to be taken apart, as some of it must be text; nowhere if none must."""
    at = bisect_right(regions, token.start, key=lambda region: region.end)
    while at < len(regions) and regions[at].start < token.end:
        region = regions[at]
        if region.start == region.end:
            yield region.start
        else:
            written = text[token.start : token.end]
            if len(written.strip()) < 2:
                raise PromptError(
                    f"The text holds {written!r}, which the model's tokenizer takes for a control token "
                    "wherever it stands. Leave it out."
                )
            # A token may take the white space beside it along.
            yield token.start + len(written) - len(written.lstrip()) + 1
        at += 1


def _read(
    tokenizer: "PreTrainedTokenizerBase", text: str, pieces: Sequence[Region]
) -> list[tuple[list[int], list[Region]]]:
    """Token ids of pieces of a text, and where in it they have control tokens.

    Some tokenizers write a space before whatever they are given. A piece that goes on is given behind a line
    break, which is taken off again.
    """
    line_break = list(tokenizer("\n", add_special_tokens=False)["input_ids"])
    ahead = ["\n" if piece.start else "" for piece in pieces]
    given = [before + text[piece.start : piece.end] for before, piece in zip(ahead, pieces, strict=True)]
    read = []
    for piece, before, (ids, places) in zip(pieces, ahead, _encoded(tokenizer, given), strict=True):
        skipped = len(line_break) if before else 0
        if before and ids[:skipped] != line_break:
            before, skipped = "", 0
            ((ids, places),) = _encoded(tokenizer, [text[piece.start : piece.end]])
        shift = piece.start - len(before)
        found = [Region(start + shift, end + shift) for start, end in places[skipped:]]
        read.append((ids[skipped:], _controls(tokenizer, text, piece, ids[skipped:], found)))
    return read


def _controls(
    tokenizer: "PreTrainedTokenizerBase", text: str, piece: Region, ids: list[int], places: list[Region]
) -> list[Region]:
    controls = control_tokens(tokenizer)
    if not places and not controls.ids.isdisjoint(ids):
        # Tokenizers written in Python do not tell where a token stands. They find what is spelled so.
        found = controls.found_in(text[piece.start : piece.end])
        return [Region(start + piece.start, end + piece.start) for start, end in found]
    return [
        place
        for token, place in zip(ids, places, strict=False)
        if token in controls.ids or (token, text[place.start : place.end].strip()) == controls.unknown
    ]


def _encoded(
    tokenizer: "PreTrainedTokenizerBase", texts: list[str]
) -> list[tuple[list[int], list[tuple[int, int]]]]:
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=tokenizer.is_fast)
    nowhere: list[list[tuple[int, int]]] = [[] for _ in texts]
    return list(zip(encoded["input_ids"], encoded.get("offset_mapping", nowhere), strict=True))


def _control_tokens(tokenizer: "PreTrainedTokenizerBase") -> ControlTokens:
    added = {
        index: token.content
        for index, token in tokenizer.added_tokens_decoder.items()
        if token.content.strip(" \t\n\r\N{LOWER ONE EIGHTH BLOCK}")
        and (token.special or not _is_words(token.content))
    }
    unknown = tokenizer.unk_token_id
    spellings = {_without_case(text.strip()) for text in added.values()}
    return ControlTokens(
        ids=frozenset(added) - {unknown},
        unknown=None if unknown is None else (int(unknown), str(tokenizer.unk_token)),
        spellings=frozenset(spellings),
        lengths=tuple(sorted({len(text) for text in spellings}, reverse=True)),
        firsts=frozenset(text[0] for text in spellings),
        beginnings=frozenset(text[:size] for text in spellings for size in range(1, len(text))),
        endings=frozenset(text[size:] for text in spellings for size in range(1, len(text))),
    )


def _without_case(text: str) -> str:
    """A text in lower case, character by character; letters whose other case is longer stay as they are."""
    changed = text.upper().lower()
    if len(changed) == len(text):
        return changed
    return "".join(other if len(other := one.upper().lower()) == 1 else one for one in text)


def _is_words(text: str) -> bool:
    return all(word.isalnum() for word in text.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").split())


class Marks:
    """Marks what must stay text in the values that a chat template is given, and finds it in what it wrote.

    Whole control tokens stand between two marks, so that a template may still look for them in a message. A
    message that may be half of one has a mark where it begins or ends.

    Args:
        tokenizer: The tokenizer.
        values: All that is to be marked.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", values: Sequence[Any]) -> None:
        self._tokenizer, self._controls = tokenizer, control_tokens(tokenizer)
        everything = "\0".join(_strings(values))
        free = (mark for mark in map(chr, _MARKS) if not any(m in everything for m in (mark, _escaped(mark))))
        pair = tuple(islice(free, 2))
        if len(pair) < 2:
            raise PromptError("The conversation holds every private-use character there is. Leave some out.")
        self._open, self._close = pair
        self._whole: set[str] = set()

    def message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """A message with marks."""
        return {
            key: self.inside(value)
            if key == "tool_calls" or (key == "role" and value in _ROLES)
            else self._at_edges(value, always=key in ("name", "role"))
            for key, value in message.items()
        }

    def inside(self, value: Any) -> Any:
        """A value with marks around whole control tokens."""
        if isinstance(value, str):
            return self._around_tokens(value)
        if isinstance(value, Mapping):
            return {self.inside(key): self.inside(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.inside(one) for one in value]
        return value

    def read(self, rendered: str) -> tuple[str, list[Region]]:
        """What a template wrote, without marks, and where it is nothing but text."""
        # Templates may write JSON in which only ASCII stands.
        marks = {spelled: mark for mark in (self._open, self._close) for spelled in (mark, _escaped(mark))}
        text, opened = "", None
        regions: list[Region] = []
        for piece in re.split("(" + "|".join(map(re.escape, marks)) + ")", rendered):
            mark = marks.get(piece)
            if mark is None:
                text += piece
                continue
            at = len(text)
            if mark == self._close and opened is not None and _without_case(text[opened:]) in self._whole:
                regions.append(Region(opened, at))
            else:
                regions.append(Region(at, at))
            opened = at if mark == self._open else None
        return text, regions

    def _around_tokens(self, text: str) -> str:
        marked, done = "", 0
        for start, end in _found(self._tokenizer, text):
            self._whole.add(_without_case(text[start:end]))
            marked += f"{text[done:start]}{self._open}{text[start:end]}{self._close}"
            done = end
        return marked + text[done:]

    def _at_edges(self, value: Any, *, always: bool = False) -> Any:
        if isinstance(value, list | tuple):
            return [self._at_edges(one) for one in value]
        if isinstance(value, Mapping):
            return {
                key: self._at_edges(one) if key in ("text", "content") else self.inside(one)
                for key, one in value.items()
            }
        marked = self.inside(value)
        if isinstance(value, str):
            stripped = value.strip()
            before = self._close if always or self._controls.goes_on_before(stripped) else ""
            behind = self._close if always or self._controls.goes_on_behind(stripped) else ""
            # Within white space, which many templates take off a message.
            ahead, rest = value[: len(value) - len(value.lstrip())], value[len(value.rstrip()) :]
            body = marked[len(ahead) : len(marked) - len(rest)]
            marked = f"{ahead}{before}{body}{behind}{rest}" if stripped else value
        return marked


def without_beginnings(tokenizer: "PreTrainedTokenizerBase", value: Any, rendered: str) -> Any:
    """A value in which no control token may come about by what a template leaves out of it.

    Args:
        tokenizer: The tokenizer.
        value: A value that the template was given.
        rendered: What it wrote. Texts that stand in it as they are stay so, and so do whole control tokens:
            those are marked.
    """
    if isinstance(value, Mapping):
        return {key: without_beginnings(tokenizer, one, rendered) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_beginnings(tokenizer, one, rendered) for one in value]
    if not isinstance(value, str) or value.strip() in rendered:
        return value
    firsts = control_tokens(tokenizer).firsts
    other = next(character for character in ".,-~_" if character not in firsts)
    whole = {at for region in _found(tokenizer, value) for at in range(*region)}
    return "".join(
        other if _without_case(character) in firsts and at not in whole else character
        for at, character in enumerate(value)
    )


def _found(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[Region]:
    """Where a text has control tokens, as it is spelled or as the tokenizer's normaliser makes it."""
    controls = control_tokens(tokenizer)
    found = controls.found_in(text)
    normalizer = tokenizer.backend_tokenizer.normalizer if tokenizer.is_fast else None
    if normalizer is not None and len(controls.found_in(normalizer.normalize_str(text))) > len(found):
        ((_, found),) = _read(tokenizer, text, [Region(0, len(text))])
    return found


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from _strings(key)
            yield from _strings(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _strings(one)


def _escaped(mark: str) -> str:
    return f"\\u{ord(mark):04x}"
