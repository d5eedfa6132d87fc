"""Queries with their paraphrases, as they are read from a file and freed of what is no paraphrase."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from guardrail.errors import RecordError
from guardrail.scoring.records import Failure
from guardrail.utils.json_lines import json_object, kind_of, read_json_lines, text_of

__all__ = ["ParaphrasedQuery", "Paraphrases", "distinct", "read_paraphrases", "take"]

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
