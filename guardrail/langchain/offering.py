"""Tools as a chat model offers them to the model."""

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from guardrail.errors import OptionError

__all__ = ["offer"]


def offer(
    tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool], choice: str | None
) -> dict[str, Any]:
    """The options of a call that offers tools.

    Args:
        tools: Tools, functions, pydantic classes or JSON schemas.
        choice: ``auto`` or None, ``none``, ``any`` or ``required``, or a tool's name.

    Raises:
        OptionError: The choice is none of these.
    """
    offered = [convert_to_openai_tool(tool) for tool in tools]
    names = [tool["function"]["name"] for tool in offered]
    if choice is None or choice == "auto":
        return {"tools": offered}
    if choice == "none":
        return {}
    if choice in names:
        offered = [tool for tool in offered if tool["function"]["name"] == choice]
    elif choice not in ("any", "required"):
        known = ", ".join(("auto", "none", "any", *names))
        raise OptionError(f"tool_choice is {choice!r}; it can be {known}.")
    return {"tools": offered, "tool_choice": "any"}
