"""Tools as a chat model offers them to the model."""

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.tools import BaseTool, Tool, create_schema_from_function
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel

from guardrail.errors import OptionError
from guardrail.models.json_schema import untitled

__all__ = ["offer"]

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
