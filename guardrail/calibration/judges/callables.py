"""A Python function as judge."""

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guardrail.calibration.judges.judge import Verdict
from guardrail.errors import OptionError
from guardrail.models.reasoning import answer_of

__all__ = ["CallableJudge", "find_callable"]


@dataclass(frozen=True, slots=True)
class CallableJudge:
    """A function ``(question, response, accepted)`` that returns True, False, None or a :class:`Verdict`.

    Attributes:
        function: The function. It is also asked where there are no accepted answers.
        name: What records call it.
    """

    function: Callable[[str, str, Sequence[str]], Any]
    name: str
    needs_answers: bool = False
    at_once: int = 1

    def __call__(self, question: str, response: str, accepted: Sequence[str]) -> Verdict:
        """Judge one answer.

        Raises:
            TypeError: The function returned something else: a score is no verdict.
        """
        said: Any = self.function(question, answer_of(response), accepted)
        correct: Any
        correct, reason = said if isinstance(said, Verdict) else (said, "")
        # A comparison in numpy gives a bool of its own.
        if type(correct).__module__ == "numpy" and hasattr(correct, "item"):
            correct = correct.item()
        if correct is not None and not isinstance(correct, bool):
            raise TypeError(
                f"{self.name} returned {type(correct).__name__}; it is to return True, False or None."
            )
        return Verdict(correct, reason)


def find_callable(name: str) -> CallableJudge:
    """The function that ``module:function`` names, from what is installed or the working directory.

    Raises:
        OptionError: There is none.
    """
    module_name, _, path = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        value: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise OptionError(f"The judge {name} cannot be imported: {error}.") from error
    for part in path.split("."):
        value = getattr(value, part, None)
    if not callable(value):
        raise OptionError(f"The module {module_name} has no function {path} that could judge.")
    return CallableJudge(value, name)
