"""A conversation as a model's chat template renders it: in the form it wants, with every message shown."""

import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from jinja2.exceptions import TemplateError

from guardrail.errors import PromptError
from guardrail.utils.threads import TimeLimitReached, time_limit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["check_shown", "render", "template_of"]

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
