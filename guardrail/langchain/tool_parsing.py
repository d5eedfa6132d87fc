"""Offer tools to a model, and parse tool calls from its output."""

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
    """Make the call options that offer tools; tools in the resulting form are accepted as well.

    Args:
        tools: Tools, functions, pydantic classes or JSON schemas.
        choice: ``auto``, False or None; ``none``; ``any``, ``required`` or True if one of them must be
            called; the name of a tool; or one of these as a dict in OpenAI's or Anthropic's form.

    Raises:
        OptionError: A tool cannot be offered, or the choice is invalid.
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
    """Reduce a choice in any form to the name of a tool or a mode such as ``auto``."""
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
    """Make the complete schema of a tool's arguments; LangChain's conversion drops recursive references."""
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
# Finds the name even in invalid JSON, such as a call that was cut off.
_NAME = re.compile(r'"name"\s*:\s*"([^"\\]+)"')
_ARGUMENTS = ("arguments", "parameters")


@dataclass(frozen=True, slots=True)
class Said:
    """An answer split into text and tool calls.

    Attributes:
        text: Text beside the calls; None if there are no calls, so that the text is the whole answer.
        calls: Calls that were parsed.
        invalid: Calls that could not be parsed.
        called: All calls for the guard, in the order in which they were written.
    """

    text: str | None = field(default=None, repr=False)
    calls: Sequence[ToolCall] = field(default=(), repr=False)
    invalid: Sequence[InvalidToolCall] = field(default=(), repr=False)
    called: Sequence[CalledTool] = field(default=(), repr=False)


class ToolReader:
    """Parser of tool calls in the draft of one request; it keeps the result until the draft may be shown.

    Args:
        tokenizer: Tokenizer of the model.
        tools: Tools that were offered.
        prompt: Function that renders the prompt, in which a tokenizer's own parser may have to start.
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
        """Find the tools that a draft calls, including invalid calls, by name where one is found.

        Args:
            draft: Whole draft with special tokens.
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
    """Parse the tool calls in an answer.

    Args:
        answer: Output of the model, without the tokens that begin and end its turn.
        tools: Names of the tools that were offered; JSON that calls none of them is an ordinary answer.
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
    """Parse the calls in an answer that consists of JSON only; empty for any other answer."""
    begin = _BEFORE_JSON.match(answer)
    values = _values(answer[begin.end() :]) if begin else []
    are_calls = all(isinstance(value, Mapping) and value.get("name") in names for value, _ in values)
    return values if are_calls else []


def _behind_reasoning(answer: str) -> str:
    """Return the text after the last reasoning marker of any known format; empty if a marker is left open.

    A marker within a call is part of its arguments.
    """
    without_calls = _HERMES.sub(lambda match: "_" * len(match[0]), answer)
    split = split_response(without_calls, where="anywhere")
    return answer[split.at :] if split.is_closed else ""


def _is_in_code(before: str) -> bool:
    """Whether a text ends within an open code block."""
    return any(before.count(fence) % 2 for fence in _FENCES)


def _values_argued(text: str) -> list[tuple[Any, str | None]]:
    """Parse calls written as name and arguments; empty if the text contains anything else."""
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
    """Build the parsed answer from its text and its calls, each with its original wording if known."""
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
    """Parse a text as JSON, or return it unchanged if it is not JSON."""
    try:
        return json_value(text)
    except RecordError:
        return text


def _values(text: str) -> list[tuple[Any, str | None]]:
    """Parse a text that consists of JSON values, each with its original wording; empty if there is more.

    The items of a list are returned one by one, without their wording.
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
    """Remove special tokens, except those that begin a call, which are special in some tokenizers."""
    for token in tokenizer.added_tokens_decoder.values():
        if token.special and token.content not in _BEGIN_CALLS:
            draft = draft.replace(token.content, "")
    return draft
