"""Chat templates: the messages and arguments that one takes, and what it makes of a conversation."""

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from guardrail.errors import OptionError, PromptError
from guardrail.utils.threads import TimeLimitReached, time_limit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "check_chat_template_kwargs",
    "check_shown",
    "content_text",
    "fingerprint_text",
    "parse_chat_template_kwargs",
    "part_text",
    "render",
    "template_of",
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


# Stands for what somebody says; neither JSON nor HTML writes it in another way.
_SAYS = "guardrailmark{}x"
# What people turn reasoning on and off by within a message; some templates take it out.
_SWITCH = re.compile(r"/(?:no_?)?think\b", re.IGNORECASE)
# A template is a program that comes with a model; a long conversation takes it some milliseconds.
LONGEST_RENDERING_S = 10.0
_ROLES = ("system", "user", "assistant", "tool")

Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]

# Roles whose messages a template wants in parts, by the template.
_wants_parts: "WeakKeyDictionary[PreTrainedTokenizerBase, dict[str, frozenset[str]]]" = WeakKeyDictionary()


def template_of(tokenizer: "PreTrainedTokenizerBase", *, tools: bool = False) -> str:
    """The chat template that a conversation is rendered with, where a model has several.

    Raises:
        PromptError: It has several, and none is its default.
    """
    template = tokenizer.chat_template
    if not isinstance(template, Mapping):
        return str(template)
    named = (["tool_use"] if tools else []) + ["default"]
    found = next((template[name] for name in named if name in template), None)
    if found is None and len(template) == 1:
        (found,) = template.values()
    if found is None:
        raise PromptError(
            f"The model has the chat templates {', '.join(sorted(template))}, and none of them is called "
            "default: give the tokenizer the one that is meant (chat_template in tokenizer_config.json)."
        )
    return str(found)


def render(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Messages,
    tools: Tools = (),
    kwargs: Mapping[str, Any] = MappingProxyType({}),
    *,
    add_generation_prompt: bool,
) -> str:
    """A conversation as the model's chat template writes it, with these arguments.

    Raises:
        PromptError: The template refuses the conversation, or fails.
    """
    template = template_of(tokenizer, tools=bool(tools))
    messages = _in_form(messages, _parts_wanted(tokenizer, template))
    return _render(tokenizer, template, messages, tools, add_generation_prompt, kwargs)


def check_shown(
    tokenizer: "PreTrainedTokenizerBase",
    messages: Messages,
    tools: Tools,
    kwargs: Mapping[str, Any],
    rendered: str,
) -> None:
    """See that a rendered conversation shows what people and tools say in it.

    White space, letter case, switches of reasoning, and the ways in which JSON and HTML write text are the
    template's affair.

    Raises:
        PromptError: Some of it is missing, so that the model would answer something else.
    """
    said = [at for at, one in enumerate(messages) if one["role"] != "assistant" and one["content"].strip()]
    # A short text may stand in the template by chance.
    marked = [{**one, "content": _SAYS.format(at)} if at in said else one for at, one in enumerate(messages)]
    probe = _plain(render(tokenizer, marked, tools, kwargs, add_generation_prompt=True))
    shown = (_plain(rendered), _plain(html.unescape(rendered)))
    for at in said:
        content = messages[at]["content"]
        spellings = [
            content,
            *(json.dumps(content, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)),
        ]
        is_shown = any(_plain(spelling) in text for spelling in spellings for text in shown)
        if not is_shown or _SAYS.format(at) not in probe:
            raise PromptError(
                f"The model's chat template does not show all of message {at + 1} ({messages[at]['role']}), "
                "so the model would answer without it. Change the roles or their order, or choose a model "
                "whose template shows them."
            )


def _plain(text: str) -> str:
    return "".join(_SWITCH.sub("", text).split()).upper().casefold()


def _parts_wanted(tokenizer: "PreTrainedTokenizerBase", template: str) -> frozenset[str]:
    """Roles whose messages the template does not show as a text, and does in parts."""
    known = _wants_parts.setdefault(tokenizer, {})
    if template not in known:
        known[template] = _find_parts_wanted(tokenizer, template)
    return known[template]


def _find_parts_wanted(tokenizer: "PreTrainedTokenizerBase", template: str) -> frozenset[str]:
    call = {"type": "function", "function": {"name": "f", "arguments": {}}, "id": "000000000"}
    user, answer = {"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}
    mark = _SAYS.format("")
    asked: dict[str, list[dict[str, Any]]] = {
        "user": [{**user, "content": mark}],
        "system": [{"role": "system", "content": mark}, user],
        "assistant": [user, {**answer, "content": mark}],
        "tool": [
            user,
            {**answer, "content": "", "tool_calls": [call]},
            {"role": "tool", "content": mark, "name": "f", "tool_call_id": "000000000"},
        ],
    }

    def shows(role: str, roles: Iterable[str]) -> bool:
        try:
            rendered = _render(tokenizer, template, _in_form(asked[role], roles), (), False).lower()
        except PromptError as error:
            if isinstance(error.__cause__, TimeLimitReached):
                raise
            return False
        # A list that is written out as such is not how a model was taught to read.
        return mark in rendered and not (roles and re.search(f"""text['"]: *['"]{mark}""", rendered))

    wanted: set[str] = set()
    for role in asked:
        # Some templates fail where the message beside it is not in its form.
        for roles in (wanted, {*wanted, role}, {*_ROLES}):
            if shows(role, roles):
                wanted |= roles & {role}
                break
    return frozenset(wanted)


def _in_form(messages: Messages, parts: Iterable[str]) -> list[dict[str, Any]]:
    return [
        {**one, "content": [{"type": "text", "text": one["content"]}] if one["content"] else []}
        if one["role"] in parts and isinstance(one["content"], str)
        else dict(one)
        for one in messages
    ]


def _render(
    tokenizer: "PreTrainedTokenizerBase",
    template: str,
    messages: list[dict[str, Any]],
    tools: Tools,
    add_generation_prompt: bool,
    kwargs: Mapping[str, Any] = MappingProxyType({}),
) -> str:
    # Imported late: a fingerprint needs this file, and no template.
    from jinja2.exceptions import TemplateError

    try:
        with time_limit(LONGEST_RENDERING_S):
            return str(
                tokenizer.apply_chat_template(
                    messages,
                    tools=[dict(tool) for tool in tools] or None,
                    chat_template=template,
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    **kwargs,
                )
            )
    except TimeLimitReached as error:
        raise PromptError(
            f"The model's chat template was stopped after {LONGEST_RENDERING_S:g} s. Mend chat_template in "
            "the model's folder, or choose another model."
        ) from error
    except MemoryError as error:
        raise PromptError(
            "The model's chat template makes more text than the memory holds. Mend chat_template in the "
            "model's folder, or choose another model."
        ) from error
    except TemplateError as error:
        raise PromptError(
            f"The model's chat template refuses this conversation: {error}. "
            "Change the roles or their order (many templates take no system message)."
        ) from error
    except Exception as error:  # a template is a program, and fails in any way that one can
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise PromptError(
            f"The model's chat template fails with this conversation ({reason}). Change the roles or their "
            "order, or mend chat_template in the model's folder."
        ) from error
