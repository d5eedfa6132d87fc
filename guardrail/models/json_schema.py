"""JSON schemas as answers are held to them: objects have the properties that are named, and no others.

A schema that says nothing of further properties allows any, and a model that may go on inventing them does.
Only schemas are looked into: what stands in ``const``, ``enum``, ``default`` or ``examples`` is data,
whatever it looks like.
"""

from collections.abc import Mapping, Set
from typing import Any

__all__ = ["closed", "untitled"]


_SCHEMAS_BY_NAME = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")
_LISTS_OF_SCHEMAS = ("allOf", "anyOf", "items", "oneOf", "prefixItems")
_SCHEMAS = ("additionalItems", "additionalProperties", "contains", "else", "items", "propertyNames", "then")
_ALTERNATIVES = ("anyOf", "oneOf")
# What an object must also fit, beside the properties that a schema names itself.
_CONDITIONS = frozenset({"$ref", "allOf", "anyOf", "dependentSchemas", "if", "not", "oneOf"})
_OF_OBJECTS = frozenset({"additionalProperties", "patternProperties", "properties", "required"})
_SAYS_OF_OTHERS = ("additionalProperties", "unevaluatedProperties")


def closed(schema: Any) -> Any:
    """The schema, whose objects have no properties but those that it names.

    Where several schemas describe one object (``allOf``, a ``$ref`` beside properties of its own) none of
    them names all of its properties, so that each stays as open as it is.
    """
    joined: Set[str] = frozenset()
    while True:
        closing = _Closing(joined)
        result = closing.closed(schema, "#", part=False)
        if closing.joined == joined:
            return result
        joined = frozenset(closing.joined)


def untitled(schema: Any) -> Any:
    """The schema without titles, which generators give to everything, and which say no more than names do."""
    if not isinstance(schema, Mapping):
        return schema
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _SCHEMAS_BY_NAME and isinstance(value, Mapping):
            result[key] = {name: untitled(one) for name, one in value.items()}
        elif key in _LISTS_OF_SCHEMAS and isinstance(value, list):
            result[key] = [untitled(one) for one in value]
        elif key != "title":
            result[key] = untitled(value) if key in _SCHEMAS else value
    return result


class _Closing:
    """One pass over a schema.

    Args:
        joined: Where schemas stand that others join with their own conditions, by ``$ref``.
    """

    def __init__(self, joined: Set[str]) -> None:
        self.joined = set(joined)

    def closed(self, schema: Any, where: str, *, part: bool) -> Any:
        """A schema, closed.

        Args:
            schema: The schema.
            where: Its place, as a ``$ref`` names it.
            part: Whether it is one of several that describe the same object.
        """
        if not isinstance(schema, Mapping):
            return schema
        part = part or where in self.joined
        conditions = _CONDITIONS & schema.keys()
        own = _OF_OBJECTS & schema.keys()
        together = schema.get("allOf")
        single = len(conditions) == 1 and not own and not (isinstance(together, list) and len(together) > 1)
        # Several conditions at once, or one beside properties: what each names is not all there is.
        joins = part or (bool(conditions) and not single)
        if joins and isinstance(schema.get("$ref"), str):
            self.joined.add(schema["$ref"])
        result = {
            key: self._within(key, value, f"{where}/{_escaped(key)}", joins) for key, value in schema.items()
        }
        is_open = isinstance(schema.get("properties"), Mapping) and schema.keys().isdisjoint(_SAYS_OF_OTHERS)
        if is_open and not joins:
            result["additionalProperties"] = False
        return result

    def _within(self, key: str, value: Any, where: str, joins: bool) -> Any:
        if key in _SCHEMAS_BY_NAME and isinstance(value, Mapping):
            part = joins and key == "dependentSchemas"
            return {
                name: self.closed(one, f"{where}/{_escaped(name)}", part=part) for name, one in value.items()
            }
        if key in _LISTS_OF_SCHEMAS and isinstance(value, list):
            part = joins and (key in _ALTERNATIVES or key == "allOf")
            return [self.closed(one, f"{where}/{at}", part=part) for at, one in enumerate(value)]
        if key in _SCHEMAS:
            return self.closed(value, where, part=joins and key in ("then", "else"))
        return value


def _escaped(name: str) -> str:
    """A name as a JSON pointer has it."""
    return name.replace("~", "~0").replace("/", "~1")
