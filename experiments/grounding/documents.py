"""The prompts of answered questions, with their document and without it."""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from guardrail.labelling.questions import parse_questions
from guardrail.models.prompt import Prompt

__all__ = ["Prompts", "prompts_of"]

# How the system messages of our conversations begin before the passage: who answers, and by what.
_INSTRUCTION = re.compile(
    r"(?:(?:You|Your|Here|Facts|Use|Answer|The facts|The only facts|These|Tell|This is|What|Say)\b"
    r"[^.:]*[.:]\s+)+"
)


class Prompts(NamedTuple):
    """What the model read, and the same without the document."""

    given: Prompt
    without: Prompt


def prompts_of(fields: Mapping[str, Any]) -> Prompts | None:
    """The prompts of a question's line; None where it has no document.

    A document is the ``context`` of a line, the part of a system message behind its instructions, or what
    stands before the blank line in the user's first message.
    """
    if isinstance(fields.get("context"), str):
        rest = {name: value for name, value in fields.items() if name != "context"}
        return Prompts(_prompt(fields), _prompt(rest))
    messages = fields.get("messages")
    if not isinstance(messages, list):
        return None
    first = messages[0]
    content = str(first["content"])
    if first["role"] == "system":
        found = _INSTRUCTION.match(content)
        left = found[0].strip() if found else ""
    else:
        document, _, left = content.rpartition("\n\n")
        found = document or None
    if not found or not left or left == content.strip():
        return None
    return Prompts(messages, [{**first, "content": left}, *messages[1:]])


def _prompt(fields: Mapping[str, Any]) -> Prompt:
    (question,) = parse_questions([json.dumps(dict(fields))], judge_needs_answers=False).usable
    return question.prompt
