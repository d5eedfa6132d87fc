"""The answers that a row of a data set accepts, whichever of the common shapes it has.

What is not one of them is refused with what was found: an index that is taken for the answer, or a solution
of ten lines of which every word would have to be said, makes labels that are wrong without a word.
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


# Where a row keeps what is right. Where several are there, all of them count.
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
# Names that may be of something else, such as a language: they count where none of the others is there.
_GENERAL = ("gold", "ground_truth", "ground_truths", "target")
_CHOICES = ("choices", "options")
# A field for each choice: A, B, C; option_a, option_b; opa, opb.
_EACH_CHOICE = ("", "option_", "option", "choice_", "op")
# Which choice is right: first those that say nothing else.
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
# No value of a data set is longer; what is would be parsed for long.
_LONGEST_VALUE = 20_000
# What data sets write where they have no answer, or keep it to themselves.
_NO_ANSWER = ("<unk>", "no answer present.")
# Fields that say what is right, in whatever way; and endings of names of what is said about it.
_SAYS_WHAT_IS_RIGHT = re.compile(
    r"answer|solution|correct|ground_?truth|gold|choice|option|ending|decision|^cop$", re.IGNORECASE
)
_IS_ABOUT_IT = re.compile(r"_(?:type|kind|id|ids|source|url|format|start|count|by)$", re.IGNORECASE)
_NUMBER_OF_ONE = re.compile(r"-?\d+|[A-J]|true|false", re.IGNORECASE)
# Nobody's answer repeats so much word for word.
_MOST_WORDS, _WORDS_OF_LINES = 100, 20
# How MATH marks a result, and GSM8K a calculation.
_OF_SOLUTIONS = re.compile(r"\\boxed[ {]|<<[^<>]*=[^<>]*>>")


class Shape(NamedTuple):
    """How a row says what is right.

    Attributes:
        name: What the shape is called: a data set's name, or the field.
        accepted: Texts and numbers that are right, each once; none where the row names none.
        context: What the question cannot be answered without, or empty.
        choices: Answers to choose from; none where the row has none.
    """

    name: str
    accepted: tuple[str | float, ...] = ()
    context: str = ""
    choices: tuple[str, ...] = ()


def shape_of(values: Mapping[str, Any]) -> Shape:
    """The shape of a row.

    Raises:
        RecordError: It has answers in no shape that is known, or in one that may be read in two ways.
    """
    values = _with_choices(values)
    choices = next((name for name in _CHOICES if values.get(name) is not None), None)
    key = next((name for name in _KEYS if values.get(name) is not None), None)
    # Sets of several kinds of questions have no choices for some.
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
                f"{named[0]} is {shown(values[named[0]])}, which is none of the {choices} word for word."
            )
        return Shape("multiple choice", accepted, choices=tuple(texts))
    return Shape(_name(values, named), accepted, _context(values))


def unread_answers(values: Mapping[str, Any]) -> str:
    """Which fields of a row without accepted answers seem to say what is right; empty where none does."""
    found = [
        name
        for name, value in _with_choices(values).items()
        if value not in (None, "", [], {})
        and (
            (_SAYS_WHAT_IS_RIGHT.search(name) and not _IS_ABOUT_IT.search(name))
            # Many are called so, of which the number of a choice is one.
            or (name in ("label", "target") and _NUMBER_OF_ONE.fullmatch(str(value)))
        )
    ]
    return ", ".join(found[:6])


def _with_choices(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row whose choices stand in one place, where it has a field for each of them."""
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
    """The passage that RACE and its like ask about."""
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
    """The passage that SQuAD and HotpotQA ask about; other rows may carry one that is not read."""
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
            raise RecordError(f"{name} holds an object of {keys}: no shape of answers that is known.")
        found = [one for key in inner for one in _listed(value.get(key), f"{name}.{key}")]
        if not found:
            raise RecordError(
                f"{name}.{inner[0]} is empty: no answer is right. Leave out the questions without one."
            )
        return found
    found = _listed(value, name)
    if not found:
        raise RecordError(f"{name} is empty: give at least one answer that is right, or leave it out.")
    return found


def _listed(value: Any, name: str) -> list[str | float]:
    if value is None:
        return []
    if isinstance(value, str):
        return _of_text(value, name)
    if not isinstance(value, list):
        value = [value]
    # As SQuAD's own files have them.
    texts = [one["text"] if isinstance(one, dict) and "text" in one else one for one in value]
    return [
        answer
        for one in texts
        for answer in (_of_text(one, name) if isinstance(one, str) else [_one(one, name)])
    ]


def _of_text(value: str, name: str) -> list[str | float]:
    """A text that may be a list written as one, or a solution with its result behind ``####``."""
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
        raise RecordError(f"{name} is a text that looks like a list ({shown(value)}); write a list of texts.")
    return [_one(value, name)]


def _is_python(text: str) -> bool:
    """Whether a text is how Python, or NumPy, shows texts in a list or a dictionary: no answer is that."""
    if _FROM_NUMPY.search(text):
        return True
    if len(text) > _LONGEST_VALUE:
        return False
    try:
        with warnings.catch_warnings():
            # It may hold what is an escape in no language.
            warnings.simplefilter("ignore")
            value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    # A pair of numbers is a point, a list of them is a list.
    return isinstance(value, list | dict) or (
        isinstance(value, tuple | set) and any(isinstance(one, str) for one in value)
    )


def _one(value: Any, name: str) -> str | float:
    # "answer": 7 is how people write it; true is an int to Python, and no answer.
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise RecordError(f"{name} holds {kind_of(value)}, and texts are expected.")
    if not value.strip():
        raise RecordError(f"{name} holds an empty text: every answer would hold it.")
    if value.strip().lower() in _NO_ANSWER:
        raise RecordError(
            f"{name} is {shown(value)}: no answer is right. Leave out the questions without one."
        )
    words = len(value.split())
    lines = len(value.strip().splitlines())
    if words > _MOST_WORDS or (lines > 1 and words > _WORDS_OF_LINES) or _OF_SOLUTIONS.search(value):
        raise RecordError(
            f"{name} holds a whole solution or passage ({words} words in {lines} lines), which nobody "
            "repeats word for word; give the result alone."
        )
    return value


def _chosen(choices: Any, where: str, answer: Any, key: str, passage: str) -> Shape:
    """Of the choices, the one that an index, a letter, a label or the text itself names."""
    labels, texts = _choices(choices, where)
    accepted = _picked(labels, texts, answer)
    if accepted is None:
        said = f"{key} is {shown(answer)}, which is none of the {len(texts)} {where}"
        raise RecordError(f"{said}: give the number (from 0), the letter, the label or the text of one.")
    name = "ARC" if key == "answerKey" else "MMLU"
    plain = tuple(_unlabelled(text, texts) for text in texts)
    return Shape(f"{name}, multiple choice", (_unlabelled(accepted, texts),), passage, plain)


def _choices(choices: Any, where: str) -> tuple[list[str], list[str]]:
    """Labels and texts: of a list of texts, of ARC's two lists, of a map from one to the other."""
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
        raise RecordError(f"{where} is {kind_of(choices)} that is no list of choices.")
    return [str(one) for one in labels or ascii_uppercase[: len(texts)]], [str(one) for one in texts]


def _unlabelled(text: str, texts: Sequence[str]) -> str:
    """A choice without its letter, where every one of them begins with its own: nobody answers with it."""
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
    # Where a label and another choice's text are the same, nobody knows which is meant.
    return named.pop() if len(named) == 1 else None


def _true_targets(values: Mapping[str, Any]) -> tuple[str | float, ...]:
    found: list[str | float] = []
    for name in _TARGETS:
        targets = values.get(name)
        choices, labels = (targets or {}).get("choices"), (targets or {}).get("labels")
        if isinstance(choices, list) and isinstance(labels, list) and len(choices) == len(labels):
            found += _right(choices, labels, name)
    if not found:
        raise RecordError("mc1_targets names no choice that is right.")
    return tuple(dict.fromkeys(found))


def _right(choices: Iterable[Any], labels: Iterable[Any], name: str) -> list[str | float]:
    return [_one(one, name) for one, label in zip(choices, labels, strict=True) if label == 1]
