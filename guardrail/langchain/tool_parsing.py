"""Tools offered to a model, and calls of tools parsed from what it wrote."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langchain_core.messages import InvalidToolCall, ToolCall
from langchain_core.messages.tool import invalid_tool_call, tool_call
from langchain_core.tools import BaseTool, Tool, create_schema_from_function
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel

from guardrail.errors import OptionError, RecordError
from guardrail.guard.tool_calls import CalledTool
from guardrail.models.json_schema import untitled
from guardrail.models.reasoning import Call, reasoning_format, split_response
from guardrail.utils.json_lines import STRICT, json_value

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Said", "ToolReader", "offer", "read_answer"]


_MUST = ("any", "required")


def offer(tools: Sequence[Any], choice: Any) -> dict[str, Any]:
    """The options of a call that offers tools. What was offered already can be offered again.

    Args:
        tools: Tools, functions, pydantic classes or JSON schemas.
        choice: ``auto``, False or None; ``none``; ``any``, ``required`` or True, where one of them must be
            called; a tool's name; or any of these as a dict, in the form of OpenAI or of Anthropic.

    Raises:
        OptionError: A tool is none, or the choice is none of these.
    """
    if isinstance(tools, str | Mapping) or not isinstance(tools, Sequence):
        raise OptionError("tools is a list of tools.")
    offered = [_offered(tool) for tool in tools]
    names = [str(tool["function"]["name"]) for tool in offered]
    chosen = _chosen(choice)
    if chosen == "none":
        return {"tools": (), "tool_choice": "auto"}
    if chosen in (None, False, "auto"):
        return {"tools": tuple(offered), "tool_choice": "auto"}
    if chosen in names:
        offered = [tool for tool in offered if tool["function"]["name"] == chosen]
    elif not (chosen is True or chosen in _MUST) or not names:
        known = ", ".join(("auto", "none", "any", *names)) if names else "auto or none where there is no tool"
        raise OptionError(f"tool_choice is {choice!r}; it can be {known}.")
    return {"tools": tuple(offered), "tool_choice": "any"}


def _chosen(choice: Any) -> Any:
    """The tool's name, or how one is chosen, of a choice in any form."""
    if not isinstance(choice, Mapping):
        return choice if choice is None or isinstance(choice, str | bool) else repr(choice)
    function = choice.get("function")
    named = function.get("name") if isinstance(function, Mapping) else choice.get("name")
    return named or choice.get("type") or repr(choice)


def _offered(tool: Any) -> dict[str, Any]:
    try:
        offered = convert_to_openai_tool(tool)
        whole = _arguments(tool)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise OptionError(f"{str(tool)[:60]!r} is no tool that a model can be offered: {error}") from error
    function = offered.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        kind = offered.get("type")
        raise OptionError(
            f"A tool of the type {kind!r} is a provider's own; a local model can be offered functions."
        )
    if whole is None:
        return dict(offered)
    return {**offered, "function": {**function, "parameters": whole}}


def _arguments(tool: Any) -> dict[str, Any] | None:
    """The schema of a tool's arguments, whole: LangChain's own form leaves out what refers to itself."""
    if isinstance(tool, BaseTool):
        tool = None if isinstance(tool, Tool) and not tool.args_schema else tool.tool_call_schema
    elif callable(tool) and not isinstance(tool, type):
        tool = create_schema_from_function(
            tool.__name__, tool, filter_args=(), parse_docstring=True, error_on_invalid_docstring=False
        )
    if not (isinstance(tool, type) and issubclass(tool, BaseModel)):
        return None
    schema: dict[str, Any] = untitled(tool.model_json_schema())
    return {key: value for key, value in schema.items() if key != "description"}


_HERMES = re.compile(r"<tool_call>(?P<call>.*?)(?:</tool_call>|\Z)", re.DOTALL)
_BEFORE_JSON = re.compile(r"\s*(?:<\|python_tag\|>|\[TOOL_CALLS\])?\s*(?=[\[{])")
_AFTER_JSON = re.compile(r"\s*;?\s*")
_ARGUED = re.compile(r"\[TOOL_CALLS\]\s*(?P<name>[\w.-]+)\s*\[ARGS\]\s*(?=\{)")
_BEGIN_CALLS = ("<tool_call>", "</tool_call>", "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]")
_FENCES = ("```", "~~~")
# Also in what is no JSON, such as a call that was cut off.
_NAME = re.compile(r'"name"\s*:\s*"([^"\\]+)"')
_ARGUMENTS = ("arguments", "parameters")


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, read.

    Attributes:
        text: What it says beside the calls; None where it calls nothing, and the text is the whole answer.
        calls: The calls that can be made.
        invalid: Those that cannot be read.
        called: All of them for a guard, in the order in which they are written.
    """

    text: str | None = field(default=None, repr=False)
    calls: Sequence[ToolCall] = field(default=(), repr=False)
    invalid: Sequence[InvalidToolCall] = field(default=(), repr=False)
    called: Sequence[CalledTool] = field(default=(), repr=False)


class ToolReader:
    """Reads one request's draft for its guard, and keeps what it read for when the draft may be shown.

    Args:
        tokenizer: The model's tokenizer.
        tools: The tools that were offered.
        prompt: Gives the rendered prompt, which a tokenizer's own way of reading may begin in.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        tools: Sequence[Mapping[str, Any]],
        prompt: Callable[[], str],
    ) -> None:
        self._tokenizer, self._tools, self._prompt = tokenizer, tools, prompt
        self.said = Said()

    def calls_in(self, draft: str) -> list[CalledTool]:
        """The tools that a draft calls; also in calls that cannot be read, as far as they have a name.

        Args:
            draft: The whole of it, with special tokens.
        """
        names = [tool["function"]["name"] for tool in self._tools]
        if getattr(self._tokenizer, "response_template", None):
            self.said = self._by_template(draft)
        elif reasoning_format(self._tokenizer).channels:
            split = split_response(draft, channels=True)
            self.said = (
                _said(split.answer, [_of_channel(call) for call in split.calls]) if split.calls else Said()
            )
        else:
            self.said = read_answer(_without_specials(self._tokenizer, draft), names)
        called = self.said.called
        if len(called) == 1 and not self.said.text:
            return [called[0]._replace(written=draft)]
        return [*called]

    def _by_template(self, draft: str) -> Said:
        tools: list[Any] = [dict(tool) for tool in self._tools]
        message = self._tokenizer.parse_response(draft, prefix=self._prompt(), tools=tools)
        found = [(call.get("function", call), None) for call in message.get("tool_calls") or ()]
        return _said(str(message.get("content") or ""), found) if found else Said()


def read_answer(answer: str, tools: Iterable[str]) -> Said:
    """Read the calls in an answer.

    Args:
        answer: What the model wrote, without the tokens that begin and end its turn.
        tools: Names of the tools that were offered: JSON that calls none of these is an answer like another.
    """
    names = set(tools)
    if values := _only_calls(answer, names):
        return _said("", values)
    answer = _behind_reasoning(answer)
    if values := _only_calls(answer, names):
        return _said("", values)
    if argued := _ARGUED.search(answer):
        values = _values_argued(answer[argued.start() :])
        text = answer[: argued.start()]
        return _said(text.strip(), values) if values and not _is_in_code(text) else Said()
    matches = [*_HERMES.finditer(answer)]
    first = len(matches)
    end = len(answer)
    while first and not answer[matches[first - 1].end() : end].strip():
        first -= 1
        end = matches[first].start()
    if first == len(matches) or _is_in_code(answer[:end]):
        return Said()
    return _said(answer[:end].strip(), [(_loaded(match["call"]), match[0]) for match in matches[first:]])


def _only_calls(answer: str, names: set[str]) -> list[tuple[Any, str | None]]:
    """The calls in an answer that is nothing but JSON; none in any other."""
    begin = _BEFORE_JSON.match(answer)
    values = _values(answer[begin.end() :]) if begin else []
    are_calls = all(isinstance(value, Mapping) and value.get("name") in names for value, _ in values)
    return values if are_calls else []


def _behind_reasoning(answer: str) -> str:
    """What follows the last marker of reasoning, whichever model wrote it; nothing where one is left open.

    A marker within a call is a part of its arguments.
    """
    without_calls = _HERMES.sub(lambda match: "_" * len(match[0]), answer)
    split = split_response(without_calls, where="anywhere")
    return answer[split.at :] if split.is_closed else ""


def _is_in_code(before: str) -> bool:
    """Whether a block of code is open behind a text."""
    return any(before.count(fence) % 2 for fence in _FENCES)


def _values_argued(text: str) -> list[tuple[Any, str | None]]:
    """Calls of the form name and arguments; nothing where the text holds more."""
    values: list[tuple[Any, str | None]] = []
    at = 0
    while begin := _ARGUED.match(text, at):
        try:
            arguments, end = json.JSONDecoder().raw_decode(text, begin.end())
        except (ValueError, RecursionError):
            return []
        values.append(({"name": begin["name"], "arguments": arguments}, text[at:end]))
        at = end + len(text[end:]) - len(text[end:].lstrip())
    return values if at == len(text) else []


def _of_channel(call: Call) -> tuple[Any, str | None]:
    name = call.recipient.removeprefix("functions.")
    return {"name": name, "arguments": _loaded(call.content)}, call.written


def _said(text: str, found: Sequence[tuple[Any, str | None]]) -> Said:
    """What was said, of values that stand for calls, each with how it is written, if that is known."""
    calls, invalid, called = [], [], []
    for one, as_written in found:
        name = one.get("name") if isinstance(one, Mapping) else None
        given = [one[key] for key in _ARGUMENTS if key in one] if isinstance(one, Mapping) else []
        arguments = _loaded(given[0]) if given and isinstance(given[0], str) else given[0] if given else {}
        identity = f"call_{uuid4().hex}"
        if isinstance(name, str) and name and isinstance(arguments, dict):
            calls.append(tool_call(name=name, args=arguments, id=identity))
        else:
            written = one if isinstance(one, str) else json.dumps(one, default=str)
            why = "The call is no JSON object with a name and arguments."
            named = _NAME.search(written)
            name = named[1] if named else None
            invalid.append(invalid_tool_call(name=name, args=written, id=identity, error=why))
        called.append(CalledTool(name or "", as_written))
    return Said(text, tuple(calls), tuple(invalid), tuple(called))


def _loaded(text: str) -> Any:
    """The value that a text stands for, or the text where it is no JSON."""
    try:
        return json_value(text)
    except RecordError:
        return text


def _values(text: str) -> list[tuple[Any, str | None]]:
    """The JSON values that a text is made of, and how they are written; nothing where it holds more.

    Those of a list are given singly, and not how each is written.
    """
    values: list[tuple[Any, str | None]] = []
    at = 0
    while at < len(text):
        try:
            begin = at
            value, at = STRICT.raw_decode(text, at)
        except (ValueError, RecursionError):
            return []
        values += [(one, None) for one in value] if isinstance(value, list) else [(value, text[begin:at])]
        after = _AFTER_JSON.match(text, at)
        at = after.end() if after else at
    return values


def _without_specials(tokenizer: "PreTrainedTokenizerBase", draft: str) -> str:
    """Without the tokens that end a turn; those that begin a call are special in some tokenizers."""
    for token in tokenizer.added_tokens_decoder.values():
        if token.special and token.content not in _BEGIN_CALLS:
            draft = draft.replace(token.content, "")
    return draft
