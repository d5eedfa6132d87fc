"""The JSON schema of a policy file.

Editors read it where a policy begins with ``# yaml-language-server: $schema=./policy.v1.schema.json``.
"""

import json
from typing import Any

from guardrail.policy.model import Policy

__all__ = ["SCHEMA_FILE", "policy_schema", "schema_text"]

SCHEMA_FILE = "policy.v1.schema.json"
# A file that extends another may leave out what it inherits.
_NEEDED = ["version"]
# Texts may hold variables, which a pattern of what they become would refuse: none of the texts has one.


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
    """The schema as the file that ships with the ready policies."""
    return json.dumps(policy_schema(), indent=2, ensure_ascii=False) + "\n"


def _tidy(schema: Any) -> None:
    """Take out what says nothing to an author: titles, and the null that a missing key becomes."""
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
        # What is said of the key goes before what is said of its type.
        merged = options[0] if len(options) == 1 else {"anyOf": options}
        schema.update({key: value for key, value in merged.items() if key not in schema})
    for value in list(schema.values()):
        _tidy(value)
