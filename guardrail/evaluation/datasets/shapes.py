"""The shapes in which questions and their accepted answers are laid out, made one."""

from collections.abc import Mapping
from typing import Any

__all__ = ["in_common_shape"]

# Where accepted answers stand, besides where ``guardrail calibrate`` looks for them: the best first.
_ONE_OR_MORE = (
    "best_answer",
    "correct_answer",
    "correct_answers",
    "accepted_answers",
    "aliases",
    "answer_aliases",
    "gold",
    "ground_truth",
    "ground_truths",
    "target",
)
# Of TriviaQA and SQuAD: an object that holds the answers.
_WITHIN = ("value", "text", "aliases")


def in_common_shape(values: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its accepted answers, each once, as a list in ``answers``; what else is in it stays.

    A row that has none is returned as it is: it may come with a label, or with nothing to judge by.
    """
    found: list[Any] = []
    for name in ("answers", "answer", "truthful answer", *_ONE_OR_MORE):
        found += _flat(values.get(name))
    others = {name: value for name, value in values.items() if name not in ("answer", "truthful answer")}
    answers = list(dict.fromkeys(one for one in found if not isinstance(one, str) or one.strip()))
    return {**others, "answers": answers} if answers else dict(values)


def _flat(value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, Mapping):
        return [one for name in _WITHIN for one in _flat(value.get(name))]
    # What is neither a text nor a number is refused where lines are read, by its name.
    return (
        [one for one in value if isinstance(one, str | int | float)] if isinstance(value, list) else [value]
    )
