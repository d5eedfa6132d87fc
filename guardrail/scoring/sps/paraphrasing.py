"""Paraphrases made by a model: the local one itself, or any chat model of LangChain."""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from guardrail.errors import GenerationError, MissingDependencyError, OptionError
from guardrail.models.progress import report
from guardrail.models.sampling import Sampling
from guardrail.scoring.sps.paraphrases import ParaphrasedQuery, Paraphrases, distinct

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel
    from guardrail.models.progress import ProgressCallback

__all__ = ["Paraphraser", "by_chat_model", "by_local_model", "open_paraphraser", "paraphrase"]

Paraphraser = Callable[[str, int], list[str]]
"""Gives so many other wordings of a question, or fewer; what it gives is looked through afterwards."""

_ONE = "Rewrite this question in other words, with the same meaning. Reply with the question only.\n\n{query}"
_SEVERAL = (
    "Rewrite this question in {count} different ways, each with exactly the same meaning. Reply with one "
    "question a line and nothing else.\n\n{query}"
)
_MAX_TOKENS = 64
# What models write before and after a line in spite of all.
_BEFORE = re.compile(
    r"^\s*(?:[-*•]\s+|\(?\d+[.):]\s+|(?:rephrase|paraphrase|question)(?:\s*\d+)?\s*:\s*)+", re.I
)
_QUOTES = "\"'“”„*` "


def paraphrase(
    queries: Sequence[ParaphrasedQuery],
    count: int,
    paraphraser: Paraphraser,
    progress: "ProgressCallback | None" = None,
) -> Paraphrases:
    """Make paraphrases of the queries that have none; those that are no other wording are left out.

    Small models answer where they are to rewrite: what is no question, though the query is, is left out too.
    Nobody looks whether the others mean the same.

    Args:
        queries: The queries.
        count: How many to ask for, of each query.
        paraphraser: Who makes them.
        progress: Told before each query that needs some.
    """
    done, left_out = [], 0
    for number, (query, given) in enumerate(queries):
        if not given:
            report(progress, "making paraphrases", number, len(queries))
            made = paraphraser(query, count)
            given = distinct(query, [one for one in made if _asks(one) or not _asks(query)])
            left_out += len(made) - len(given)
        done.append(ParaphrasedQuery(query, given[:count]))
    return Paraphrases(done, left_out)


def by_local_model(model: "LocalModel", *, temperature: float = 0.8, seed: int = 0) -> Paraphraser:
    """Let the model write them itself: one of each of several draws, in one batch."""

    def paraphraser(query: str, count: int) -> list[str]:
        sampling = Sampling(max_tokens=_MAX_TOKENS, temperature=temperature, seed=seed)
        traces = model.generate_batch([_ONE.format(query=query)] * count, sampling)
        for trace in traces:
            trace.release()
        return [line for trace in traces for line in _lines(trace.text)[:1]]

    return paraphraser


def by_chat_model(model: Any, name: str) -> Paraphraser:
    """Let a chat model of LangChain write them: one request for each query.

    Args:
        model: Anything with LangChain's ``invoke``.
        name: What errors call it.
    """

    def paraphraser(query: str, count: int) -> list[str]:
        try:
            reply = model.invoke([("human", _SEVERAL.format(query=query, count=count))])
        # Each provider's package has errors of its own.
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise GenerationError(f"{name} made no paraphrases: {type(error).__name__}: {reason}") from error
        return _lines(str(getattr(reply, "text", reply)))

    return paraphraser


def open_paraphraser(name: str) -> Paraphraser:
    """The chat model that ``provider:model`` names, opened by LangChain's ``init_chat_model``.

    Raises:
        MissingDependencyError: LangChain, or its package for this provider, is not installed.
        OptionError: LangChain does not know the model, or a key is missing.
    """
    try:
        from langchain.chat_models import init_chat_model
    except ImportError as error:
        raise MissingDependencyError(
            f"The chat model {name} needs LangChain: pip install 'guardrail-llm[agents]'"
        ) from error
    try:
        return by_chat_model(init_chat_model(name), name)
    except ImportError as error:
        raise MissingDependencyError(f"The chat model {name} cannot be opened: {error}") from error
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise OptionError(f"The chat model {name} cannot be opened: {reason}") from error


def _asks(text: str) -> bool:
    return text.rstrip().endswith(("?", "？", "؟"))


def _lines(text: str) -> list[str]:
    """The questions among the lines of a reply."""
    lines = (_BEFORE.sub("", line).strip(_QUOTES) for line in text.splitlines())
    return [line for line in lines if line and not line.endswith(":")]
