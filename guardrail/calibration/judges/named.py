"""The judge that a name or an object stands for."""

from difflib import get_close_matches
from typing import Any, cast

from guardrail.calibration.judges.judge import Judge
from guardrail.calibration.judges.matching import ContainsJudge, ExactJudge, F1Judge
from guardrail.errors import OptionError

__all__ = ["as_judge"]

_NAMES = (
    "exact, contains, f1[:THRESHOLD], embedding[:MODEL[:THRESHOLD]], chat:PROVIDER:MODEL or module:function"
)


def as_judge(judge: Any) -> Judge:
    """Make a judge of what the user gave.

    Args:
        judge: A judge's name; a :class:`Judge`; a LangChain chat model; or a function
            ``(question, response, accepted)`` that returns True, False, None or a ``Verdict``.

    Raises:
        OptionError: It is none of them, or a name that leads nowhere.
        MissingDependencyError: It needs a package that is not installed.
    """
    if isinstance(judge, str):
        return _named(judge.strip())
    if all(hasattr(judge, part) for part in ("name", "needs_answers", "at_once")) and callable(judge):
        return cast("Judge", judge)
    if hasattr(judge, "invoke"):
        from guardrail.calibration.judges.chat import ChatJudge

        return ChatJudge(judge)
    if callable(judge):
        from guardrail.calibration.judges.callables import CallableJudge

        module, name = getattr(judge, "__module__", ""), getattr(judge, "__qualname__", type(judge).__name__)
        return CallableJudge(judge, f"{module}:{name}")
    raise OptionError(
        f"A {type(judge).__name__} is no judge. It can be {_NAMES}, a function or a chat model."
    )


def _named(name: str) -> Judge:
    kind, _, rest = name.partition(":")
    if name == "exact":
        return ExactJudge()
    if name == "contains":
        return ContainsJudge()
    if kind == "f1":
        return F1Judge(_threshold(name, rest)) if rest else F1Judge()
    if kind == "embedding":
        return _embedding(name, rest)
    if kind == "chat" and rest:
        from guardrail.calibration.judges.chat import open_chat_judge

        return open_chat_judge(name)
    if kind and rest and kind not in ("exact", "contains", "chat"):
        from guardrail.calibration.judges.callables import find_callable

        return find_callable(name)
    close = get_close_matches(kind.lower(), ("exact", "contains", "f1", "embedding", "chat"), n=1)
    suggestion = f" Did you mean {close[0]}?" if close else ""
    raise OptionError(f"There is no judge {name!r}. It can be {_NAMES}.{suggestion}")


def _embedding(name: str, rest: str) -> Judge:
    from guardrail.calibration.judges.embedding import DEFAULT_EMBEDDING_MODEL, EmbeddingJudge

    model, _, last = rest.rpartition(":")
    if last and _is_number(last):
        return EmbeddingJudge(model or DEFAULT_EMBEDDING_MODEL, _threshold(name, last))
    return EmbeddingJudge(rest or DEFAULT_EMBEDDING_MODEL)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()


def _threshold(name: str, text: str) -> float:
    if not _is_number(text):
        raise OptionError(f"The threshold {text!r} of the judge {name!r} is no number.")
    return float(text)
