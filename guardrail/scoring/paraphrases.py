"""Queries with their paraphrases: read from a file, or made by a model."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from guardrail.errors import GenerationError, MissingDependencyError, OptionError, RecordError
from guardrail.models.sampling import Sampling
from guardrail.scoring.batches import Failure
from guardrail.utils.json_lines import json_object, kind_of, read_json_lines, text_of
from guardrail.utils.threads import report

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel
    from guardrail.utils.threads import ProgressCallback

__all__ = [
    "ParaphrasedQuery",
    "Paraphraser",
    "Paraphrases",
    "by_chat_model",
    "by_local_model",
    "distinct",
    "open_paraphraser",
    "paraphrase",
    "read_paraphrases",
    "take",
]


_QUERY_FIELDS = ("query", "question")


class ParaphrasedQuery(NamedTuple):
    """A question and other ways to ask it, all of them different; none where they are yet to be made."""

    query: str
    paraphrases: tuple[str, ...]


class Paraphrases(NamedTuple):
    """The queries of a file.

    Attributes:
        queries: They.
        left_out: How many of their paraphrases were no other wording.
        refused: Lines that hold none, and why.
        lines: Number of each query's line.
    """

    queries: Sequence[ParaphrasedQuery]
    left_out: int
    refused: Sequence[Failure] = ()
    lines: Mapping[str, int] = MappingProxyType({})


def read_paraphrases(path: str | Path, limit: int | None = None) -> Paraphrases:
    """Read lines of the form ``{"query": "…", "paraphrases": ["…", …]}``; ``question`` will do for ``query``.

    Args:
        path: The file.
        limit: Take only so many lines.

    A line that has no query or something else for paraphrases, or that asks what another one asked, is among
    those refused.

    Raises:
        RecordError: It is no file of JSON lines, or none of its lines can be used.
    """
    refused: list[Failure] = []
    queries: dict[str, tuple[int, ParaphrasedQuery]] = {}
    left_out = 0
    for number, line in enumerate(read_json_lines(path)[:limit], start=1):
        if not line.strip():
            continue
        try:
            query, given = _parsed(json_object(line))
            key = _key(query)
            if key in queries:
                raise RecordError(f"It asks the same as line {queries[key][0]}; queries must differ.")
        except RecordError as error:
            refused.append(Failure(number, str(error), error.exit_status))
            continue
        kept = distinct(query, given)
        left_out += len(given) - len(kept)
        queries[key] = (number, ParaphrasedQuery(query, kept))
    if not queries:
        first = refused[0]
        raise RecordError(f"{path} line {first.line}: {first.reason}")
    lines = {query.query: number for number, query in queries.values()}
    return Paraphrases([query for _, query in queries.values()], left_out, refused, lines)


def distinct(query: str, paraphrases: Iterable[str]) -> tuple[str, ...]:
    """Those that are another wording: not empty, nor the query or one before but for case or punctuation."""
    kept: dict[str, str] = {}
    for paraphrase in map(str.strip, paraphrases):
        key = _key(paraphrase)
        if key and key != _key(query):
            kept.setdefault(key, paraphrase)
    return tuple(kept.values())


def take(queries: Iterable[ParaphrasedQuery], count: int) -> list[ParaphrasedQuery]:
    """The queries with the first so many of their paraphrases."""
    return [query._replace(paraphrases=query.paraphrases[:count]) for query in queries]


def _parsed(values: Mapping[str, Any]) -> tuple[str, list[str]]:
    name = next((name for name in _QUERY_FIELDS if name in values), None)
    if name is None:
        raise RecordError('It has neither "query" nor "question".')
    query = text_of(values[name], name).strip()
    if not _key(query):
        raise RecordError(f"{name} is empty.")
    given = values.get("paraphrases", [])
    if not isinstance(given, list):
        raise RecordError(f"paraphrases is {kind_of(given)}, and a list of texts is expected.")
    return query, [text_of(one, "A paraphrase") for one in given]


def _key(text: str) -> str:
    """Words alone, in one case: what two texts have in common that nobody would call different wordings."""
    return " ".join(re.findall(r"\w+", text.casefold()))


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
