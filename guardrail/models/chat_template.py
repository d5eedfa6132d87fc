"""What a chat template takes: the content of messages, and arguments beyond them (``enable_thinking``)."""

import json
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from guardrail.errors import OptionError, PromptError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "check_chat_template_kwargs",
    "content_text",
    "fingerprint_text",
    "parse_chat_template_kwargs",
    "part_text",
    "with_text",
]


# Where the text stands in a part of each kind, in this order.
_TEXT_OF = {
    "input_text": ("text",),
    "output_text": ("text",),
    "refusal": ("refusal",),
    "text": ("text",),
    "text-plain": ("title", "context", "text"),
}


def content_text(content: Any, place: str) -> str:
    """The text of a message's content; parts are joined as they are.

    Args:
        content: A text, or parts.
        place: What a sentence about it begins with, such as ``Message 2``.

    Raises:
        PromptError: A part is no text.
    """
    if isinstance(content, str):
        return content
    texts = []
    for part in content:
        if (text := part_text(part)) is None:
            kind = part.get("type", "a part without a type") if isinstance(part, Mapping) else part
            raise PromptError(
                f"{place} holds {str(kind)[:60]!r}, and this model reads text alone. Leave it out, or say it "
                "in words."
            )
        texts.append(text)
    return "".join(texts)


def part_text(part: Any) -> str | None:
    """The text of a part of a content; None where it is no text, or holds more."""
    if isinstance(part, str):
        return part
    names = _TEXT_OF.get(str(part.get("type")), ()) if isinstance(part, Mapping) else ()
    # A document may be given as a file instead, which is not looked into.
    if not names or not isinstance(part.get(names[-1]), str):
        return None
    texts = [part[name] for name in names if part.get(name)]
    return "\n".join(texts) if all(isinstance(text, str) for text in texts) else None


def with_text(messages: Sequence[Any]) -> list[Any]:
    """Messages whose content is a text, where it was given in parts; whatever is wrong else stays as it is.

    A turn that calls tools may say nothing (``null``).

    Raises:
        PromptError: A part is no text.
    """
    return [_with_text(message, number) for number, message in enumerate(messages, start=1)]


def _with_text(message: Any, number: int) -> Any:
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, list):
        return {**message, "content": content_text(content, f"Message {number}")}
    if isinstance(message, Mapping) and content is None and message.get("tool_calls"):
        return {**message, "content": ""}
    return message


# What a prompt is made of; and what transformers takes for arguments of its own.
_TAKEN = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "documents",
        "max_length",
        "messages",
        "padding",
        "processor_kwargs",
        "raise_exception",
        "return_assistant_tokens_mask",
        "return_dict",
        "return_tensors",
        "sanitize_control_tokens",
        "strftime_now",
        "tokenize",
        "tokenizer_kwargs",
        "tools",
        "truncation",
    }
)
# A tag of transformers', which says what an assistant wrote.
_GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")


def parse_chat_template_kwargs(text: str | None) -> dict[str, Any]:
    """Arguments given as a JSON object, as a command line takes them; none of None.

    Raises:
        OptionError: It is no JSON object.
    """
    if text is None:
        return {}
    try:
        values = json.loads(text)
    except ValueError as error:
        raise OptionError(
            f"--chat-template-kwargs is no JSON ({error}). Write it like '{{\"enable_thinking\": false}}'."
        ) from error
    if not isinstance(values, dict):
        raise OptionError(
            f"--chat-template-kwargs is {text}; give a JSON object such as '{{\"enable_thinking\": false}}'."
        )
    return values


def check_chat_template_kwargs(
    tokenizer: "PreTrainedTokenizerBase", kwargs: Mapping[str, Any] | None
) -> dict[str, Any]:
    """See that a model's chat template reads these arguments: one that it does not changes nothing.

    Raises:
        OptionError: One is none that the template reads, would overwrite what a prompt is made of, or is no
            value of JSON.
    """
    if kwargs is None:
        return {}
    if not isinstance(kwargs, Mapping) or not all(isinstance(name, str) for name in kwargs):
        raise OptionError(f"chat_template_kwargs is {kwargs!r}; give a dict of the template's arguments.")
    if not kwargs:
        return {}
    try:
        json.dumps(dict(kwargs), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise OptionError(f"chat_template_kwargs holds what is no JSON: {error}.") from error
    taken = sorted(_TAKEN.union(tokenizer.special_tokens_map) & set(kwargs))
    if taken:
        raise OptionError(
            f"chat_template_kwargs cannot set {', '.join(taken)}: prompts are made of it. Leave it out."
        )
    if not tokenizer.chat_template:
        raise OptionError(
            f"The model has no chat template, so nothing reads {', '.join(sorted(kwargs))}. Leave it out."
        )
    read = _read_by(tokenizer)
    unknown = sorted(set(kwargs) - read)
    if unknown:
        known = sorted(name for name in read - _TAKEN if name not in tokenizer.special_tokens_map)
        near = get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it reads {', '.join(known) or 'no arguments'}."
        raise OptionError(f"The model's chat template does not read {', '.join(unknown)}; {hint}")
    return dict(kwargs)


def fingerprint_text(kwargs: Mapping[str, Any]) -> str:
    """The arguments as one text: the same for equal arguments, in whatever order; empty for none."""
    return json.dumps(kwargs, sort_keys=True, separators=(",", ":")) if kwargs else ""


def _read_by(tokenizer: "PreTrainedTokenizerBase") -> set[str]:
    """The names that a template takes from outside."""
    from jinja2 import Environment, TemplateError
    from jinja2.meta import find_undeclared_variables

    template = tokenizer.chat_template
    texts = list(template.values()) if isinstance(template, dict) else [str(template)]
    environment = Environment(extensions=["jinja2.ext.loopcontrols"])  # noqa: S701  (nothing is rendered)
    try:
        return {
            name
            for text in texts
            for name in find_undeclared_variables(environment.parse(_GENERATION.sub("", text)))
        }
    except TemplateError as error:
        raise OptionError(f"The model's chat template cannot be read: {error}.") from error
