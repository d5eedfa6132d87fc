"""Messages shown with or instead of an answer: rendering, and recognising them in a text."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from guardrail.policy.conditions import NUMBERS, QUANTILES
from guardrail.policy.evidence import Action
from guardrail.utils.text import did_you_mean

__all__ = [
    "PLACEHOLDERS",
    "TEXTS",
    "TICKET",
    "UNKNOWN",
    "MessagePart",
    "Notice",
    "Notices",
    "check_message",
    "names_ticket",
    "parts_of",
    "render_message",
    "rendered_but_for_ticket",
]


# Placeholders for text; all others are for numbers.
TEXTS = ("rule", "finish_reason", "ticket")
# The placeholder that is unknown until an answer has been escalated.
TICKET = "ticket"
PLACEHOLDERS = (
    "confidence",
    *NUMBERS,
    *(f"quantile_{name}" for name in QUANTILES),
    *TEXTS,
)
UNKNOWN = "unknown"
# Literal text, a doubled brace, a placeholder, or a stray brace.
_PART = re.compile(
    r"(?P<text>[^{}]+)|(?P<brace>\{\{|\}\})|\{(?P<name>[^{}:]*)(?::(?P<spec>[^{}]*))?\}|(?P<odd>[{}])"
)
_SPEC = re.compile(r"(,?(\.\d{1,2})?[efg%]?)", re.IGNORECASE)


class MessagePart(NamedTuple):
    """Part of a message.

    Attributes:
        text: Literal text; empty for a placeholder.
        name: The placeholder's name; None for literal text.
        spec: The placeholder's format.
    """

    text: str
    name: str | None = None
    spec: str = ""


def check_message(template: str) -> str:
    """Return the message if it can be rendered.

    Raises:
        ValueError: A placeholder or its format is unknown; the message names it.
    """
    for part in parts_of(template):
        if part.name is None:
            continue
        if part.name not in PLACEHOLDERS:
            raise ValueError(
                f"has the unknown placeholder {{{part.name}}}{did_you_mean(part.name, PLACEHOLDERS)}"
            )
        example = part.name if part.name in TEXTS else f"{part.name}:.2f"
        if part.spec and (part.name in TEXTS or not _SPEC.fullmatch(part.spec)):
            raise ValueError(f"has the format {part.spec!r} for {part.name}; write {{{example}}}")
    return template


def render_message(template: str, values: Mapping[str, float | str | None]) -> str:
    """Fill in a checked message. Placeholders without a value read ``unknown``."""
    return "".join(
        part.text if part.name is None else _shown(values.get(part.name), part.spec)
        for part in parts_of(template)
    )


def rendered_but_for_ticket(template: str, values: Mapping[str, float | str | None]) -> str:
    """Fill in all placeholders of a checked message except ``{ticket}``; the result is a message again."""
    return "".join(
        "{ticket}"
        if part.name == TICKET
        else (part.text if part.name is None else _shown(values.get(part.name), part.spec))
        .replace("{", "{{")
        .replace("}", "}}")
        for part in parts_of(template)
    )


def names_ticket(template: str) -> bool:
    """Whether a message has a ``{ticket}`` placeholder; an invalid message has none."""
    try:
        return any(part.name == TICKET for part in parts_of(template))
    except ValueError:
        return False


def parts_of(template: str) -> Iterator[MessagePart]:
    """The parts of a message in order.

    Raises:
        ValueError: A brace is not part of a placeholder.
    """
    for found in _PART.finditer(template):
        if found["odd"]:
            raise ValueError(
                f"has a {found['odd']} that is not part of a placeholder; write {found['odd'] * 2} for a "
                f"brace"
            )
        if found["name"] is not None:
            yield MessagePart("", found["name"], found["spec"] or "")
        else:
            yield MessagePart(found["text"] or found["brace"][0])


def _shown(value: float | str | None, spec: str) -> str:
    if value is None:
        return UNKNOWN
    return value if isinstance(value, str) else format(value, spec or ".3g")


# A message with at least this many letters is recognised anywhere in a text.
_LONG = 16
# A shorter one, with at least this many letters and two words, must be most of the text.
_SHORT = 8
# A letter that is a whole syllable or word counts as this many.
_SYLLABLE = 3

# Longer texts are not searched for chains of messages.
_LONGEST_CHAIN = 10_000

# A number without and with punctuation; bounded, so that no match takes long.
_NUMBER = rf"(?:\d|(?<=\d)e(?=\d)|{UNKNOWN}|inf|nan){{1,120}}"
_WRITTEN_NUMBER = rf"(?:[\d.,%+-]|(?<=[\d.])e(?=[+\-\d])|{UNKNOWN}|inf|nan){{1,120}}"
_FINISH_REASON = rf"(?:stop|(?:reasoning_?)?length|{UNKNOWN})"
_TICKET = rf"(?:[0-9a-f]{{32}}|{UNKNOWN})"
# Marks that open something, and marks that close it.
_OPENING, _CLOSING = "([{<\"'`*_~\u201c\u2018\u201e", ")]}>.,:;!?\u2026"


class Notice(NamedTuple):
    """A message of a policy.

    Attributes:
        text: The message with its placeholders.
        action: The action it is for.
        rule: Id of the rule it belongs to.
    """

    text: str
    action: Action
    rule: str


class Notices:
    """A policy's messages, recognised in texts.

    Args:
        notices: The messages; invalid ones are skipped.
    """

    def __init__(self, notices: Iterable[Notice]) -> None:
        patterns = [pattern for pattern in map(_pattern, notices) if pattern is not None]
        self._patterns = tuple(dict.fromkeys(patterns))

    def repeated_in(self, text: str) -> str:
        """The message that a text repeats, as written in the policy; empty if there is none.

        A text repeats messages if it consists of nothing else, if it contains a long one, or if a shorter one
        makes up most of it. "No." within an answer is not a repetition.
        """
        for is_written in (False, True):
            patterns = [one for one in self._patterns if one.is_written is is_written]
            read = _Read(text, _is_visible if is_written else str.isalnum)
            found = _whole(patterns, read) or _held(patterns, read)
            if found is not None:
                return found.notice
        return ""

    def without_flags(self, text: str) -> str:
        """The text without the warnings that a policy, or whoever showed the answer, added to it."""
        for pattern in self._patterns:
            if pattern.is_flag and not pattern.is_written:
                text = _cut(pattern, text)
        return text


class _Pattern(NamedTuple):
    notice: str
    regex: re.Pattern[str]
    letters: int
    words: int
    is_flag: bool
    # Whether the message consists only of punctuation, so that letters cannot identify it.
    is_written: bool


class _Read:
    """The characters of a text that are compared, with their positions."""

    def __init__(self, text: str, keep: Callable[[str], bool]) -> None:
        self.text = text
        self.letters, self._places = _letters(text, keep)

    def found(self, pattern: _Pattern) -> Iterator[tuple[int, int]]:
        """Start and end of each occurrence of a message as whole words."""
        for match in pattern.regex.finditer(self.letters):
            begin, end = self._places[match.start()], self._places[match.end() - 1] + 1
            if self._is_edge(begin) and self._is_edge(end):
                yield begin, end

    def ends(self, pattern: _Pattern, at: int) -> list[int]:
        """Positions among the letters where a message starting here can end."""
        match = pattern.regex.match(self.letters, at)
        # A number may have swallowed the start of the next message.
        possible = range(at + 1, match.end() + 1) if match else ()
        edges = [end for end in possible if self._is_edge(self._places[end - 1] + 1)]
        return [end for end in edges if pattern.regex.fullmatch(self.letters, at, end)]

    def _is_edge(self, at: int) -> bool:
        beside = self.text[max(0, at - 1) : at + 1]
        return len(beside) < 2 or not all(_is_joined(one) for one in beside)


def _whole(patterns: Sequence[_Pattern], read: _Read) -> _Pattern | None:
    """The first message of a text that consists only of messages."""
    if not read.letters:
        return None
    for pattern in patterns:
        if pattern.regex.fullmatch(read.letters):
            return pattern
    if len(read.letters) > _LONGEST_CHAIN:
        return None
    # For each reachable position, the first message of the chain leading there.
    reached: dict[int, _Pattern] = {}
    waiting: list[tuple[int, _Pattern | None]] = [(0, None)]
    while waiting and len(read.letters) not in reached:
        at, first = waiting.pop()
        for pattern in patterns:
            for end in read.ends(pattern, at):
                if end not in reached:
                    reached[end] = first or pattern
                    waiting.append((end, reached[end]))
    return reached.get(len(read.letters))


def _held(patterns: Sequence[_Pattern], read: _Read) -> _Pattern | None:
    """A message contained in a text among other words."""
    for pattern in patterns:
        for begin, end in read.found(pattern):
            own = len(_letters(read.text[begin:end])[0])
            is_most = pattern.letters >= _SHORT and pattern.words > 1 and 2 * own >= len(read.letters)
            if pattern.letters >= _LONG or is_most:
                return pattern
    return None


def _cut(pattern: _Pattern, text: str) -> str:
    at = 0
    while True:
        read = _Read(text, str.isalnum)
        span = next((one for one in read.found(pattern) if one[0] >= at), None)
        if span is None:
            return text
        before, after = _parted(text, *span)
        if pattern.letters >= _LONG or _is_line(text, *span) or not (before or after):
            text, at = "\n\n".join(filter(None, (before, after))), len(before)
        else:
            at = span[1]


def _parted(text: str, begin: int, end: int) -> tuple[str, str]:
    """The text before and after a message, without the punctuation that belongs to the message."""
    last = next((at for at in range(begin, 0, -1) if text[at - 1].isalnum()), 0)
    first = next((at for at in range(end, len(text)) if text[at].isalnum()), len(text))
    # Marks up to the first space belong to the text before; those after the last space to the text after.
    ends, begins = re.split(r"\s", text[last:begin]), re.split(r"\s", text[end:first])
    closing = ends[0] if len(ends) > 1 else ends[0].rstrip(_OPENING)
    opening = begins[-1] if len(begins) > 1 else begins[-1].lstrip(_CLOSING)
    before = f"{text[:last]}{closing}" if last else ""
    after = f"{opening}{text[first:]}" if first < len(text) else ""
    return before, after


def _says(text: str) -> bool:
    return any(one.isalnum() for one in text)


def _is_line(text: str, begin: int, end: int) -> bool:
    """Whether a message has its lines to itself."""
    before, after = text[:begin].rpartition("\n")[2], text[end:].partition("\n")[0]
    return not _says(before) and not _says(after)


def _pattern(notice: Notice) -> _Pattern | None:
    try:
        parts = list(parts_of(notice.text))
    except ValueError:
        # A message of a base policy that was replaced.
        return None
    said = "".join(part.text for part in parts)
    letters, _ = _letters(said)
    is_written = not letters
    keep = _is_visible if is_written else str.isalnum
    written = [_regex(part, keep, notice.rule, is_written=is_written) for part in parts]
    # Adjacent numbers are matched as one: splitting the digits among them would take too long.
    numbers = (_NUMBER, _WRITTEN_NUMBER)
    apart = [one for at, one in enumerate(written) if one not in numbers or one not in written[at - 1 : at]]
    if not any(apart):
        return None
    weight = sum(_SYLLABLE if unicodedata.category(one) == "Lo" else 1 for one in letters)
    words = 2 if weight > len(letters) else len(re.findall(r"[^\W_]+", said))
    is_flag = notice.action == "flag"
    return _Pattern(notice.text, re.compile("".join(apart)), weight, words, is_flag, is_written)


def _regex(part: MessagePart, keep: Callable[[str], bool], rule: str, *, is_written: bool) -> str:
    if part.name is None:
        return re.escape(_letters(part.text, keep)[0])
    if part.name not in TEXTS:
        return _WRITTEN_NUMBER if is_written else _NUMBER
    if part.name == "rule":
        return re.escape(_letters(rule, keep)[0])
    return _TICKET if part.name == TICKET else _FINISH_REASON


def _letters(text: str, keep: Callable[[str], bool] = str.isalnum) -> tuple[str, list[int]]:
    """The compared characters without case and accents, and the position of each."""
    letters, places = [], []
    for at, character in enumerate(text):
        for one in unicodedata.normalize("NFKD", character).casefold():
            if keep(one):
                letters.append(one)
                places.append(at)
    return "".join(letters), places


def _is_visible(character: str) -> bool:
    return character.isprintable() and not character.isspace()


def _is_joined(character: str) -> bool:
    """Whether a letter is only part of a word; in scripts of syllables or ideographs it is one itself."""
    return character.isalnum() and unicodedata.category(character) != "Lo"
