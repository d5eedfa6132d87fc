"""Facts of an answer other than its scores: the conversation before it, its form, its length.

A profile keeps those of the answers that it was made from (``calibration.domain``), so that an answer unlike
them is known for one. Plain data: no torch, no NumPy.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal
from unicodedata import name as character_name

from guardrail.models.chat_template import part_text

__all__ = ["SINGLE_QUESTION", "AnswerFacts", "Form", "facts_of"]

# Characters that are looked at to tell the script of a text.
_LOOKED_AT = 2_000

Form = Literal["text", "json", "call"]


@dataclass(frozen=True, slots=True)
class AnswerFacts:
    """What is known of how an answer came about, other than its scores. The default is a plain question.

    Attributes:
        turns: Messages of the user up to the answer; 1 for a single question.
        system: SHA-256 of the system message; empty if there is none.
        tools: Whether the model was shown tools, or the conversation has results of tools.
        form: What the answer is: text, JSON, or a call of a tool.
        reasoning: Whether the model reasoned before it.
        script: Script of the user's last message, such as ``latin``; empty if it has no letters.
        prompt_tokens: Length of the prompt in tokens; None if unknown.
        answer_tokens: Length of the answer in tokens; None if unknown.
        cut_off: Whether the answer was cut off at its largest length.
    """

    turns: int = 1
    system: str = ""
    tools: bool = False
    form: Form = "text"
    reasoning: bool = False
    script: str = "latin"
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    cut_off: bool = False


SINGLE_QUESTION = AnswerFacts()


def facts_of(
    messages: Sequence[Mapping[str, Any]],
    response: str,
    *,
    prompt_tokens: int | None = None,
    answer_tokens: int | None = None,
    cut_off: bool = False,
    reasoning: bool = False,
    tools: bool = False,
    calls: bool = False,
    constrained: bool = False,
) -> AnswerFacts:
    """The facts of an answer.

    Args:
        messages: The conversation up to the answer.
        response: The answer.
        prompt_tokens: Length of the prompt in tokens, if known.
        answer_tokens: Length of the answer in tokens, without its reasoning, if known.
        cut_off: Whether the answer ended because it had become too long.
        reasoning: Whether the model reasoned before it.
        tools: Whether the model was shown tools.
        calls: Whether the answer calls a tool.
        constrained: Whether it was held to a grammar, such as a JSON schema.
    """
    said = [_text(message.get("content")) for message in messages if message.get("role") == "user"]
    system = "\n\n".join(
        _text(one.get("content")) for one in messages if one.get("role") in ("system", "developer")
    )
    form: Form = "call" if calls else "json" if constrained or _is_json(response) else "text"
    return AnswerFacts(
        turns=max(1, len(said)),
        system=sha256(system.encode()).hexdigest() if system else "",
        tools=tools or any(message.get("role") == "tool" for message in messages),
        form=form,
        reasoning=reasoning,
        script=_script(said[-1] if said else ""),
        prompt_tokens=prompt_tokens,
        answer_tokens=answer_tokens,
        cut_off=cut_off,
    )


def _text(content: Any) -> str:
    parts = content if isinstance(content, list) else [content if isinstance(content, str) else ""]
    return "".join(part_text(part) or "" for part in parts)


def _is_json(text: str) -> bool:
    text = text.strip().removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    if not text.startswith(("{", "[")):
        return False
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def _script(text: str) -> str:
    """The script of most letters; Japanese and Chinese characters count as one."""
    letters = (letter for letter in text[-_LOOKED_AT:] if letter.isalpha())
    names = Counter(character_name(letter, "").split(" ")[0].lower() for letter in letters)
    names.pop("", None)
    found = names.most_common(1)[0][0] if names else ""
    return "cjk" if found in ("hiragana", "katakana", "cjk") else found
