"""Pydantic's errors in words and at their place in the file; the JSON schema of a policy."""

import json
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from guardrail.policy.conditions import QUANTILES
from guardrail.policy.document import Mistake, Node, step
from guardrail.policy.model import Policy
from guardrail.utils.text import did_you_mean

__all__ = ["SCHEMA_FILE", "kind_of", "policy_schema", "schema_text", "validate"]


_Model = TypeVar("_Model", bound=BaseModel)
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'")
_EXPECTED = {
    "string_type": "text",
    "float_type": "a number",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "mapping_type": "a map",
    "dict_type": "a map",
    "model_type": "a map",
}
_EXAMPLES = {
    "Bounds": " such as {gte: 0.01}",
    "ShareBounds": " such as {gte: 0.5}",
    "Certified": " such as {max_error: 0.05, confidence: 0.95}",
    "When": " such as {confidence: {gte: 0.5}}",
    "Rule": " with id, when and action",
    "Target": " such as {queue: 'sqlite:///guardrail.db'}",
    "Log": " such as {file: decisions.jsonl}",
    "OnError": " such as {action: abstain}, or abstain",
    "OnOutsideDomain": " such as {action: abstain}, or abstain",
    "OnUncalibrated": " such as {action: abstain}, or abstain",
}
_LIMITS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def validate(model: type[_Model], root: Node) -> tuple[_Model | None, list[Mistake]]:
    """Validate a file's values as a model, or report every error.

    Conflicts between valid parts are left to ``lint``, which knows their places.
    """
    try:
        return model.model_validate(root.plain()), []
    except ValidationError as error:
        found = error.errors(include_url=False)
        return None, [
            _mistake(model, root, one["loc"], one["type"], one) for one in found if _is_said(root, one)
        ]


def _is_said(root: Node, error: Mapping[str, Any]) -> bool:
    if error["type"] == "too_short":
        # To pydantic a list of only invalid items is as short as an empty one.
        node, _ = _descend(root, error["loc"])
        return not node.items and not node.entries
    return bool(error["type"] != "conflict")


def _mistake(
    model: type[BaseModel], root: Node, where: Sequence[str | int], kind: str, error: Mapping[str, Any]
) -> Mistake:
    node, rest = _descend(root, where)
    context = error.get("ctx", {})
    if kind == "extra_forbidden":
        # The path ends in the key's value, but the key itself is wrong.
        above, _ = _descend(root, where[:-1])
        key = str(where[-1])
        entry = above.entries.get(key)
        known = _names(_types_at(model, where[:-1]))
        place = entry.key if entry else node.place
        return Mistake(place, step(above.path, key), f"unknown key{did_you_mean(key, known)}")
    if rest and rest[-1] == "[key]":
        key = str(rest[-2] if len(rest) > 1 else where[-2])
        above, _ = _descend(root, where[:-2])
        entry = above.entries.get(key)
        said = _words(kind, context, node)
        scores = QUANTILES if said == "unknown score" else ()
        place = entry.key if entry else node.place
        return Mistake(place, step(above.path, key), f"{said}{did_you_mean(key, scores)}")
    if kind == "missing":
        return Mistake(node.place, step(node.path, str(where[-1])), "is missing")
    return node.mistake(_words(kind, context, node))


def _descend(node: Node, where: Iterable[str | int]) -> tuple[Node, list[str | int]]:
    """Follow a path as far as it leads; the rest are names that pydantic adds for union members."""
    rest: list[str | int] = []
    for key in where:
        found = None
        if not rest:
            items = node.items
            found = items[key] if isinstance(key, int) and key < len(items) else node.get(str(key))
        if found is None:
            rest.append(key)
        else:
            node = found
    return node, rest


def _words(kind: str, context: Mapping[str, Any], node: Node) -> str:
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        names = _QUOTED.findall(str(context["expected"])) or [str(context["expected"])]
        shown = kind_of(node) if node.entries or node.items else repr(node.value)[:60]
        return f"is {shown}{did_you_mean(node.text or '', names)}"
    if kind in _LIMITS:
        key, words = _LIMITS[kind]
        return f"is {node.value}; it must be {words} {context[key]:g}"
    if kind == "finite_number":
        return "must be a finite number"
    if kind in ("too_short", "string_too_short"):
        return "is empty"
    if kind in _EXPECTED:
        expected = _EXPECTED[kind] + _EXAMPLES.get(str(context.get("class_name")), "")
        return f"is {kind_of(node)}; {expected} is expected{_quotes_hint(kind, node)}"
    return f"is not valid ({kind.replace('_', ' ')})"


def _quotes_hint(kind: str, node: Node) -> str:
    if kind == "string_type" and (node.entries or node.items):
        return "; put text that begins with { or [ in quotes"
    if kind == "string_type":
        return "; put it in quotes"
    return "; remove the quotes" if kind == "float_type" and node.quoted else ""


def kind_of(node: Node) -> str:
    """The kind of a value, in words."""
    if isinstance(node.value, Mapping):
        return "a map"
    if isinstance(node.value, tuple):
        return "a list"
    if isinstance(node.value, bool):
        return "true" if node.value else "false"
    return "text" if node.text is not None else "empty" if node.value is None else "a number"


def _types_at(model: type[BaseModel], where: Iterable[str | int]) -> list[Any]:
    """The possible types of a value at this path of keys."""
    types_: list[Any] = [model]
    for key in where:
        # A name that is not a key is one that pydantic gives a union member.
        types_ = [deeper for one in types_ for deeper in _below(one, key)] or types_
    return types_


def _below(annotation: Any, key: str | int) -> list[Any]:
    below: list[Any] = []
    for one in _members(annotation):
        if isinstance(one, type) and issubclass(one, BaseModel):
            below += [
                field.annotation for name, field in one.model_fields.items() if key == (field.alias or name)
            ]
        elif isinstance(key, int) and get_origin(one) is tuple:
            below.append(get_args(one)[0])
        elif (
            isinstance(key, str)
            and isinstance(get_origin(one), type)
            and issubclass(get_origin(one), Mapping)
        ):
            below.append(get_args(one)[1])
    return below


def _members(annotation: Any) -> list[Any]:
    """The members of a union, without annotations."""
    if hasattr(annotation, "__metadata__"):
        return _members(annotation.__origin__)
    if get_origin(annotation) in (Union, types.UnionType):
        return [member for one in get_args(annotation) for member in _members(one)]
    return [annotation]


def _names(types_: Iterable[Any]) -> list[str]:
    return [
        field.alias or name
        for annotation in types_
        for one in _members(annotation)
        if isinstance(one, type) and issubclass(one, BaseModel)
        for name, field in one.model_fields.items()
    ]


SCHEMA_FILE = "policy.v1.schema.json"
# The only required key: a file that extends another may inherit the rest.
_NEEDED = ["version"]
# Texts have no patterns, because a variable in one would not match.


def policy_schema() -> dict[str, Any]:
    """The schema, generated from the models."""
    schema = Policy.model_json_schema(by_alias=True)
    _tidy(schema)
    schema["required"] = _NEEDED
    schema["anyOf"] = [{"required": ["extends"]}, {"required": ["name", "rules"]}]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_FILE,
        **schema,
        "title": "guardrail policy, version 1",
    }


def schema_text() -> str:
    """The schema as the file that ships with the built-in policies."""
    return json.dumps(policy_schema(), indent=2, ensure_ascii=False) + "\n"


def _tidy(schema: Any) -> None:
    """Remove what means nothing to an author: titles, and null as the value of a missing key."""
    if isinstance(schema, list):
        for one in schema:
            _tidy(one)
    if not isinstance(schema, dict):
        return
    if isinstance(schema.get("title"), str):
        del schema["title"]
    if schema.get("default", ...) is None:
        del schema["default"]
    options = [one for one in schema.get("anyOf", []) if one != {"type": "null"}]
    if options and len(options) < len(schema["anyOf"]):
        del schema["anyOf"]
        # The description of the key takes precedence over that of its type.
        merged = options[0] if len(options) == 1 else {"anyOf": options}
        schema.update({key: value for key, value in merged.items() if key not in schema})
    for value in list(schema.values()):
        _tidy(value)
