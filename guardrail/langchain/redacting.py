"""That a model ran and how many tokens it took, without a word of what it was asked or answered.

Whoever counts tokens has to know of an answer that nobody sees, too.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult

__all__ = ["HeldEvent", "without_words"]

# Of what a run's start is told by name.
_KEPT = ("run_id", "tags", "metadata", "name")
_NOTHING_ASKED: dict[str, list[Any]] = {"on_chat_model_start": [[]], "on_llm_start": [""]}


class HeldEvent(NamedTuple):
    """An event of LangChain's callbacks: its name, and its arguments by place and by name."""

    name: str
    values: tuple[Any, ...]
    named: dict[str, Any]


def without_words(events: Sequence[HeldEvent], parent: UUID | None) -> list[HeldEvent]:
    """Starts and ends of the models that answered, as runs directly within ``parent``; nothing else."""
    ended = {event.named["run_id"] for event in events if event.name == "on_llm_end"}
    kept = []
    for name, values, named in events:
        if named.get("run_id") not in ended:
            continue
        facts = {key: named[key] for key in _KEPT if key in named} | {"parent_run_id": parent}
        if name in _NOTHING_ASKED:
            kept.append(HeldEvent(name, (_names(values[0]), _NOTHING_ASKED[name]), facts))
        elif name == "on_llm_end":
            kept.append(HeldEvent(name, (_silent_result(values[0]),), facts))
    return kept


def _names(serialized: Any) -> dict[str, Any]:
    """What a model is called, without the arguments that it was made with."""
    return {key: serialized[key] for key in ("id", "name") if key in (serialized or {})}


def _silent_result(response: LLMResult) -> LLMResult:
    usage = (response.llm_output or {}).get("token_usage")
    return LLMResult(
        generations=[[_silent(generation) for generation in several] for several in response.generations],
        llm_output={"token_usage": usage} if usage else None,
    )


def _silent(generation: Any) -> Generation:
    if not isinstance(generation, ChatGeneration):
        return Generation(text="")
    message = generation.message
    model = message.response_metadata.get("model_name")
    silent = AIMessage(
        content="",
        usage_metadata=getattr(message, "usage_metadata", None),
        response_metadata={"model_name": model} if model else {},
    )
    return ChatGeneration(message=silent)
