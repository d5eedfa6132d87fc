"""Whether an answer fits the JSON schema that a server was asked to hold it to: some pass it over."""

import json
from collections.abc import Mapping
from typing import Any

from guardrail.models.json_schema import closed

__all__ = ["conforms"]


def conforms(text: str, schema: Mapping[str, Any]) -> bool:
    """Whether a text is JSON that fits a schema, in any white space.

    Args:
        text: The answer.
        schema: The schema, which an answer can be held to.
    """
    from llguidance import LLMatcher, LLTokenizer

    spaced = {**closed(schema), "x-guidance": {"whitespace_flexible": True}}
    tokenizer = LLTokenizer("byte")
    matcher = LLMatcher(tokenizer, f"start: answer\nanswer: %json {json.dumps(spaced)}")
    tokens = tokenizer.tokenize_str(text.strip())
    return (
        not matcher.is_error()
        and matcher.try_consume_tokens(tokens) == len(tokens)
        and matcher.is_accepting()
    )
