"""The accepted answers in a row of a data set, in any of the common shapes.

Anything else is refused, naming what was found: an index mistaken for the answer, or a solution of ten lines
that would have to be repeated word for word, would silently produce wrong labels.
"""

import ast
import json
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from string import ascii_uppercase
from typing import Any, NamedTuple

from guardrail.errors import RecordError
from guardrail.utils.json_lines import kind_of, shown

__all__ = ["Shape", "shape_of", "unread_answers"]


# Fields with accepted answers; if there are several, all count.
_FIELDS = (
    "answers",
    "answer",
    "truthful answer",
    "best_answer",
    "correct_answer",
    "correct_answers",
    "accepted_answers",
    "possible_answers",
    "aliases",
    "answer_aliases",
)
# Names that might mean something else, such as a language; used only without any of the above.
_GENERAL = ("gold", "ground_truth", "ground_truths", "target")
_CHOICES = ("choices", "options")
# Names of separate fields for each choice: A, B, C; option_a, option_b; opa, opb.
_EACH_CHOICE = ("", "option_", "option", "choice_", "op")
# Fields naming the right choice, the least ambiguous first.
_KEYS = (
    "answerKey",
    "answer_key",
    "answer_idx",
    "answer_index",
    "answer",
    "label",
    "correct_answer",
    "gold",
    "target",
    "ground_truth",
)
_TARGETS = ("mc1_targets", "mc2_targets")
_FINAL = re.compile(r"(?:^|\n)\s*####\s*(\S[^\n]*?)\s*$")
_LIKE_A_VALUE = re.compile(r"\s*(?:[\[({].*[\])}]|(?:array|dtype|Series|Index)\(.*\))\s*", re.DOTALL)
_FROM_NUMPY = re.compile(r"\barray\(")
# Longer values do not occur in data sets, and would take long to parse.
_LONGEST_VALUE = 20_000
# What data sets write for a missing or undisclosed answer.
_NO_ANSWER = ("<unk>", "no answer present.")
# Names of fields that say what is right, and endings of names of metadata about it.
_SAYS_WHAT_IS_RIGHT = re.compile(
    r"answer|solution|correct|ground_?truth|gold|choice|option|ending|decision|^cop$", re.IGNORECASE
)
_IS_ABOUT_IT = re.compile(r"_(?:type|kind|id|ids|source|url|format|start|count|by)$", re.IGNORECASE)
_NUMBER_OF_ONE = re.compile(r"-?\d+|[A-J]|true|false", re.IGNORECASE)
# Longer texts would never be repeated word for word.
_MOST_WORDS, _WORDS_OF_LINES = 100, 20
# How MATH marks a result and GSM8K a calculation.
_OF_SOLUTIONS = re.compile(r"\\boxed[ {]|<<[^<>]*=[^<>]*>>")


class Shape(NamedTuple):
    """How a row says what is right.

    Attributes:
        name: Name of the shape: a data set's, or the field's.
        accepted: Accepted texts and numbers, without duplicates; empty if the row has none.
        context: Text that the question needs; may be empty.
        choices: Answers to choose from; empty if the row has none.
    """

    name: str
    accepted: tuple[str | float, ...] = ()
    context: str = ""
    choices: tuple[str, ...] = ()


def shape_of(values: Mapping[str, Any]) -> Shape:
    """Recognise the shape of a row.

    Raises:
        RecordError: Its answers have an unknown or ambiguous shape.
    """
    values = _with_choices(values)
    choices = next((name for name in _CHOICES if values.get(name) is not None), None)
    key = next((name for name in _KEYS if values.get(name) is not None), None)
    # In mixed data sets some questions have no choices.
    if (
        choices is not None
        and not values[choices]
        and not _NUMBER_OF_ONE.fullmatch(str(values.get(key or "")))
    ):
        choices = None
    if choices is not None and key is not None:
        return _chosen(values[choices], choices, values[key], key, _passage(values))
    is_named = any(values.get(name) is not None for name in ("best_answer", "correct_answers"))
    if not is_named and any(isinstance(values.get(name), Mapping) for name in _TARGETS):
        return Shape("TruthfulQA, multiple choice", _true_targets(values))
    answer, passage = values.get("answer"), values.get("passage")
    if isinstance(answer, bool) and isinstance(passage, str):
        return Shape("BoolQ", ("yes", "true") if answer else ("no", "false"), passage)
    named = [name for name in _FIELDS if values.get(name) is not None]
    named = named or [name for name in _GENERAL if values.get(name) is not None]
    found = [one for name in named for one in _answers(values[name], name)]
    accepted = tuple(dict.fromkeys(found))
    if choices is not None and accepted:
        _, texts = _choices(values[choices], choices)
        accepted = tuple(_unlabelled(one, texts) if isinstance(one, str) else one for one in accepted)
        texts = [_unlabelled(text, texts) for text in texts]
        if not set(map(str, accepted)) <= set(texts):
            raise RecordError(
                f"{named[0]} is {shown(values[named[0]])}, which is not one of the {choices} word for word."
            )
        return Shape("multiple choice", accepted, choices=tuple(texts))
    return Shape(_name(values, named), accepted, _context(values))


def unread_answers(values: Mapping[str, Any]) -> str:
    """Fields of a row without accepted answers that seem to say what is right; empty if there are none."""
    found = [
        name
        for name, value in _with_choices(values).items()
        if value not in (None, "", [], {})
        and (
            (_SAYS_WHAT_IS_RIGHT.search(name) and not _IS_ABOUT_IT.search(name))
            # These names are common; here they count only with the number of a choice.
            or (name in ("label", "target") and _NUMBER_OF_ONE.fullmatch(str(value)))
        )
    ]
    return ", ".join(found[:6])


def _with_choices(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row with its choices in one field, if it has a separate field for each."""
    if any(values.get(name) for name in _CHOICES):
        return values
    by_name = {name if len(name) == 1 else name.lower(): value for name, value in values.items()}
    for prefix in _EACH_CHOICE:
        each = {}
        for letter in ascii_uppercase:
            text = by_name.get(f"{prefix}{letter.lower()}" if prefix else letter)
            if not isinstance(text, str | int | float) or isinstance(text, bool):
                break
            each[letter] = text
        if len(each) > 1:
            return {**values, "choices": each}
    return values


def _passage(values: Mapping[str, Any]) -> str:
    """The passage for a question of RACE and similar data sets."""
    found = next((values[name] for name in ("article", "passage") if values.get(name)), "")
    return found if isinstance(found, str) else ""


def _name(values: Mapping[str, Any], named: Sequence[str]) -> str:
    answers, answer = values.get("answers"), values.get("answer")
    is_listed = isinstance(answers, list) and bool(answers) and isinstance(answers[0], dict)
    if isinstance(answers, Mapping) or is_listed:
        return "SQuAD"
    if isinstance(answer, Mapping):
        return "TriviaQA"
    if isinstance(answer, str) and _FINAL.search(answer):
        return "GSM8K"
    if isinstance(values.get("context"), Mapping | list) and "supporting_facts" in values:
        return "HotpotQA"
    sets = {"best_answer": "TruthfulQA", "correct_answer": "SciQ", "possible_answers": "PopQA"}
    return next((sets[name] for name in named if name in sets), " and ".join(named))


def _context(values: Mapping[str, Any]) -> str:
    """The passage for a question of SQuAD or HotpotQA; in other rows a context may be something else."""
    context = values.get("context")
    if isinstance(context, str) and _name(values, ()) == "SQuAD":
        return context
    if "supporting_facts" not in values:
        return ""
    if isinstance(context, Mapping):
        context = list(zip(context.get("title", ()), context.get("sentences", ()), strict=False))
    paragraphs = [
        f"{one[0]}: {''.join(map(str, one[1]))}"
        for one in (context if isinstance(context, list) else ())
        if isinstance(one, list | tuple) and len(one) == 2 and isinstance(one[1], list | tuple)
    ]
    return "\n".join(paragraphs)


def _answers(value: Any, name: str) -> list[str | float]:
    if isinstance(value, Mapping):
        is_list = isinstance(value.get("text"), list)
        inner = ("value", "aliases") if "value" in value else ("text",) if is_list else ()
        if not inner:
            keys = ", ".join(sorted(map(str, value))[:6]) or "nothing"
            raise RecordError(f"{name} is an object with {keys}, which is not a known shape of answers.")
        found = [one for key in inner for one in _listed(value.get(key), f"{name}.{key}")]
        if not found:
            raise RecordError(
                f"{name}.{inner[0]} is empty: no answer is right. Leave out questions without one."
            )
        return found
    found = _listed(value, name)
    if not found:
        raise RecordError(f"{name} is empty: give at least one accepted answer, or leave it out.")
    return found


def _listed(value: Any, name: str) -> list[str | float]:
    if value is None:
        return []
    if isinstance(value, str):
        return _of_text(value, name)
    if not isinstance(value, list):
        value = [value]
    # SQuAD's own files have objects here.
    texts = [one["text"] if isinstance(one, dict) and "text" in one else one for one in value]
    return [
        answer
        for one in texts
        for answer in (_of_text(one, name) if isinstance(one, str) else [_one(one, name)])
    ]


def _of_text(value: str, name: str) -> list[str | float]:
    """Answers in a text, which may be a list written as text, or a solution ending in ``#### RESULT``."""
    final = _FINAL.search(value)
    if final is not None:
        result = final[1]
        plain = result.replace(",", "")
        return [plain] if plain == result else [plain, result]
    if not _LIKE_A_VALUE.fullmatch(value):
        return [_one(value, name)]
    try:
        items = json.loads(value)
    except (ValueError, RecursionError):
        items = None
    if isinstance(items, list) and items and all(isinstance(one, str) for one in items):
        return [_one(one, name) for one in items]
    if isinstance(items, list | dict) or _is_python(value):
        raise RecordError(f"{name} is text that looks like a list ({shown(value)}); write a list of texts.")
    return [_one(value, name)]


def _is_python(text: str) -> bool:
    """Whether a text is the Python or NumPy notation of a list or dictionary, which is never an answer."""
    if _FROM_NUMPY.search(text):
        return True
    if len(text) > _LONGEST_VALUE:
        return False
    try:
        with warnings.catch_warnings():
            # It may contain invalid escapes.
            warnings.simplefilter("ignore")
            value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    # A tuple of numbers may be a point and thus an answer; a list is not.
    return isinstance(value, list | dict) or (
        isinstance(value, tuple | set) and any(isinstance(one, str) for one in value)
    )


def _one(value: Any, name: str) -> str | float:
    # People do write "answer": 7. In Python true is an int, but it is not an answer.
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise RecordError(f"{name} contains {kind_of(value)}; texts are expected.")
    if not value.strip():
        raise RecordError(f"{name} contains an empty text, which every answer would contain.")
    if value.strip().lower() in _NO_ANSWER:
        raise RecordError(f"{name} is {shown(value)}: no answer is right. Leave out questions without one.")
    words = len(value.split())
    lines = len(value.strip().splitlines())
    if words > _MOST_WORDS or (lines > 1 and words > _WORDS_OF_LINES) or _OF_SOLUTIONS.search(value):
        raise RecordError(
            f"{name} is a whole solution or passage ({words} words in {lines} lines), which nobody repeats "
            "word for word; give only the result."
        )
    return value


def _chosen(choices: Any, where: str, answer: Any, key: str, passage: str) -> Shape:
    """The choice named by an index, a letter, a label or its text."""
    labels, texts = _choices(choices, where)
    accepted = _picked(labels, texts, answer)
    if accepted is None:
        said = f"{key} is {shown(answer)}, which is not one of the {len(texts)} {where}"
        raise RecordError(f"{said}: give the number (from 0), the letter, the label or the text of one.")
    name = "ARC" if key == "answerKey" else "MMLU"
    plain = tuple(_unlabelled(text, texts) for text in texts)
    return Shape(f"{name}, multiple choice", (_unlabelled(accepted, texts),), passage, plain)


def _choices(choices: Any, where: str) -> tuple[list[str], list[str]]:
    """Labels and texts from a list of texts, from ARC's two lists, or from a map of one to the other."""
    labels: Any = ()
    texts: Any = choices
    if isinstance(choices, Mapping) and {"text", "label"} <= set(choices):
        labels, texts = choices["label"], choices["text"]
    elif isinstance(choices, Mapping):
        labels, texts = list(choices), list(choices.values())
    elif isinstance(choices, list) and choices and all(isinstance(one, dict) for one in choices):
        labels, texts = [one.get("label") for one in choices], [one.get("text") for one in choices]
    is_list = isinstance(texts, list) and texts and all(isinstance(one, str | int | float) for one in texts)
    if not is_list or (labels and len(labels) != len(texts)):
        raise RecordError(f"{where} is {kind_of(choices)}, not a list of choices.")
    return [str(one) for one in labels or ascii_uppercase[: len(texts)]], [str(one) for one in texts]


def _unlabelled(text: str, texts: Sequence[str]) -> str:
    """A choice without its letter, if every choice begins with one: nobody repeats it."""
    begins = [re.compile(rf"\(?{letter}[.):]\s*(?=\S)") for letter in ascii_uppercase[: len(texts)]]
    found = [begin.match(one) for begin, one in zip(begins, texts, strict=False)]
    if len(texts) > len(begins) or not all(found) or text not in texts:
        return text
    match = found[list(texts).index(text)]
    return text[match.end() :] if match else text


def _picked(labels: Sequence[str], texts: Sequence[str], answer: Any) -> str | None:
    if isinstance(answer, bool) or not isinstance(answer, int | str):
        return None
    if isinstance(answer, int):
        return texts[answer] if 0 <= answer < len(texts) else None
    # "(b)" and "B." name the choice that "B" names.
    letter = answer.strip().removeprefix("(").rstrip(".)")
    named = {text for label, text in zip(labels, texts, strict=False) if label in (letter, letter.upper())}
    named |= {text for text in texts if text.strip() == answer.strip()}
    # Ambiguous if a label equals the text of another choice.
    return named.pop() if len(named) == 1 else None


def _true_targets(values: Mapping[str, Any]) -> tuple[str | float, ...]:
    found: list[str | float] = []
    for name in _TARGETS:
        targets = values.get(name)
        choices, labels = (targets or {}).get("choices"), (targets or {}).get("labels")
        if isinstance(choices, list) and isinstance(labels, list) and len(choices) == len(labels):
            found += _right(choices, labels, name)
    if not found:
        raise RecordError("mc1_targets has no right choice.")
    return tuple(dict.fromkeys(found))


def _right(choices: Iterable[Any], labels: Iterable[Any], name: str) -> list[str | float]:
    return [_one(one, name) for one, label in zip(choices, labels, strict=True) if label == 1]
