"""Numbers written in different ways, made one: 1,000 and "one thousand", 3.0 and 3, "twenty-one" and 21."""

from collections.abc import Sequence

__all__ = ["join_numbers", "plain_number"]

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_ROUND = "twenty thirty forty fifty sixty seventy eighty ninety"
_UNITS = {word: value for value, word in enumerate(_SMALL.split())}
_TENS = {word: 10 * value for value, word in enumerate(_ROUND.split(), start=2)}
_HUNDRED = 100
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_MULTIPLIERS = {"hundred": _HUNDRED, **_SCALES}


def plain_number(digits: str) -> str:
    """A number in digits without needless zeros, the minus sign in front."""
    sign = "-" if digits[0] in "-\N{MINUS SIGN}" else ""
    whole, _, fraction = digits.lstrip("-\N{MINUS SIGN}").partition(".")
    fraction = fraction.rstrip("0")
    return sign + (whole.lstrip("0") or "0") + (f".{fraction}" if fraction else "")


def join_numbers(words: Sequence[str]) -> list[tuple[int, str]]:
    """Numbers in words, in digits.

    A lone "one" stays a word: it is a pronoun as often as a number.

    Args:
        words: Words in small letters, numbers in digits as :func:`plain_number` writes them.

    Returns:
        The words that are left, each with the place of the first that it was made of.
    """
    joined: list[tuple[int, str]] = []
    at = 0
    while at < len(words):
        value, end = _number(words, at)
        if end > at + 1 or (end > at and words[at] != "one"):
            joined.append((at, value))
        else:
            end = at + 1
            joined.append((at, words[at]))
        at = end
    return joined


def _number(words: Sequence[str], at: int) -> tuple[str, int]:
    """The number that begins here, and where it ends: at its beginning where there is none."""
    if words[at].replace(".", "", 1).isdecimal():
        multiplier = _MULTIPLIERS.get(_word(words, at + 1))
        return (words[at], at + 1) if multiplier is None else (_scaled(words[at], multiplier), at + 2)
    total, end, smaller_than = 0, at, 10**15
    while True:
        value, after = _group(words, end + 1 if end > at and _word(words, end) == "and" else end)
        scale = _SCALES.get(_word(words, after), 1)
        # "a million": a scale alone, at the beginning.
        if value is None and (scale == 1 or end > at):
            return str(total), end
        if scale >= smaller_than or (end > at and scale == 1 and (value or 0) >= smaller_than):
            return str(total), end
        total += (1 if value is None else value) * scale
        end = after + (scale > 1)
        smaller_than = scale
        if scale == 1:
            return str(total), end


def _group(words: Sequence[str], at: int) -> tuple[int | None, int]:
    """A number below a thousand in words, and where it ends."""
    value, end = _below_hundred(words, at)
    if _word(words, end) != "hundred" or (value or 1) >= _HUNDRED:
        return value, end
    hundreds, end = (1 if value is None else value) * _HUNDRED, end + 1
    rest, after = _below_hundred(words, end + (_word(words, end) == "and"))
    # "two hundred and three hundred" are two numbers.
    if rest is None or _word(words, after) == "hundred":
        return hundreds, end
    return hundreds + rest, after


def _below_hundred(words: Sequence[str], at: int) -> tuple[int | None, int]:
    word = _word(words, at)
    if word in _UNITS:
        return _UNITS[word], at + 1
    if word not in _TENS:
        return None, at
    unit = _UNITS.get(_word(words, at + 1), 0)
    return (_TENS[word] + unit, at + 2) if 0 < unit < 10 else (_TENS[word], at + 1)


def _scaled(digits: str, multiplier: int) -> str:
    whole, _, fraction = digits.partition(".")
    zeros = len(str(multiplier)) - 1
    return plain_number(f"{whole}{fraction[:zeros].ljust(zeros, '0')}.{fraction[zeros:]}")


def _word(words: Sequence[str], at: int) -> str:
    return words[at] if at < len(words) else ""
