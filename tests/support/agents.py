"""Agents with scripted models and a real tool, guards that the tiny model reads for, and ways to run them."""

import asyncio
import time

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from pydantic import Field

from guardrail.langchain.middleware import UncertaintyMiddleware
from tests.support.guards import PASS, policy_of, tiny

# What nobody may see of an answer that is withheld: in its text, and in what it gives a tool.
CANARY, SECRET = "Zanzibar", "Timbuktu"
ABSTAIN = {"id": "no", "action": "abstain", "message": "I do not know."}
HUMAN = {"id": "ask", "action": "escalate", "to": "human"}
STRONG = {"id": "up", "action": "escalate", "to": "strong"}
HUMAN_TARGET = {"human": {"queue": "sqlite:///never-made.db"}}
STRONG_TARGET = {"strong": {"chat_model": "openai:gpt-5"}}
ASKED = {"messages": [("user", "Where is it?")]}
THREAD = {"configurable": {"thread_id": "1"}}
MODES = ["values", "updates", "messages", "custom", "debug", "tasks", "checkpoints"]


class Scripted(BaseChatModel):
    """A chat model of somebody else: says one message after the other, the last of them for ever."""

    script: list
    asked: list = Field(default_factory=list)
    tools: list = Field(default_factory=list)
    fails: bool = False
    takes_s: float = 0.0

    @property
    def _llm_type(self):
        return "scripted"

    def bind_tools(self, tools, **_):
        self.tools.append([one.name for one in tools])
        return self

    def _next(self, messages):
        self.asked.append(list(messages))
        time.sleep(self.takes_s)
        if self.fails:
            raise RuntimeError("The server is gone.")
        message = self.script[min(len(self.asked), len(self.script)) - 1]
        return message(list(messages)) if callable(message) else message

    def _generate(self, messages, stop=None, run_manager=None, **_):
        return ChatResult(generations=[ChatGeneration(message=self._next(messages).model_copy())])

    def _stream(self, messages, stop=None, run_manager=None, **_):
        message = self._next(messages)
        calls = [
            tool_call_chunk(
                name=call["name"], args=str(call["args"]).replace("'", '"'), id=call["id"], index=at
            )
            for at, call in enumerate(message.tool_calls)
        ]
        words = [AIMessageChunk(f"{word} ") for word in message.text.split()]
        metadata = message.response_metadata
        for one in [*words, AIMessageChunk("", tool_call_chunks=calls, response_metadata=metadata)]:
            chunk = ChatGenerationChunk(message=one)
            if run_manager:
                run_manager.on_llm_new_token(one.text, chunk=chunk)
            yield chunk


def calling(*, text=f"{CANARY} it is", where=SECRET):
    """An answer that calls the tool."""
    return AIMessage(text, tool_calls=[{"name": "look_up", "args": {"place": where}, "id": "c1"}])


def said(text=f"{CANARY} it is", **fields):
    return AIMessage(text, **fields)


class Agent:
    """An agent with a guard and a tool; ``places`` is what the tool was called with."""

    def __init__(self, *rules, script, scorer=None, profile=None, **options):
        self.places = []
        self.model = script if isinstance(script, BaseChatModel) else Scripted(script=script)

        @tool
        def look_up(place: str) -> str:
            """Look a place up."""
            self.places.append(place)
            return f"{place} is far away"

        own = {
            name: options.pop(name)
            for name in ("targets", "people", "tags", "answered_by")
            if name in options
        }
        made = {name: options.pop(name) for name in ("checkpointer", "response_format") if name in options}
        around = options.pop("middleware", [])
        tools = options.pop("tools", [look_up])
        policy = policy_of(*(rules or [PASS]), **options)
        if profile is not None:
            values = {**options, "profile": str(profile)}
            policy = policy_of(*(rules or [PASS]), **values).found_at(profile)
        guard = self.guard = UncertaintyMiddleware(policy, scorer or tiny(), **own)
        self.graph = create_agent(self.model, tools, middleware=[*around, guard], **made)

    def invoke(self, asked=ASKED, config=None, *, how="sync"):
        if how == "sync":
            return self.graph.invoke(asked, config)
        return asyncio.run(self.graph.ainvoke(asked, config))

    def last(self, **options):
        return self.invoke(**options)["messages"][-1]


def streamed(graph, asked=ASKED, config=None, *, how="sync", **options):
    """Everything that a stream gives."""
    if how == "sync":
        return list(graph.stream(asked, config, **options))

    async def read():
        return [chunk async for chunk in graph.astream(asked, config, **options)]

    return asyncio.run(read())


def knows(seen, *words):
    """Whether any of the words is in what was seen, in one piece or in tokens."""
    return any(word in repr(seen) for word in words or (CANARY, SECRET))
