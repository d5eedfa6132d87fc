"""Arguments of a chat template beyond the conversation: ``enable_thinking``, ``reasoning_effort``."""

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from guardrail.errors import OptionError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["check_chat_template_kwargs", "fingerprint_text", "parse_chat_template_kwargs"]

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
