"""Chains with models of others in them, guards that the tiny model reads for, and everything that listens."""

import json

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from pydantic import Field

from guardrail.langchain.answer_parts import parts_of
from guardrail.langchain.verdicts import sealed
from guardrail.langchain.wrapper import UncertaintyGuard
from tests.support.guards import policy_of, tiny

# What nobody may see of an answer that is withheld.
CANARY = "Zanzibar"
SAID = f"{CANARY} wrote it"
ABSTAIN = {"id": "no", "action": "abstain", "message": "I do not know."}
FLAG = {"id": "check", "action": "flag", "message": "Please check."}
PROMPT = ChatPromptTemplate.from_template("Who wrote {book}?")
BOOK = {"book": "Faust"}
USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}

_ARGUMENTS = ("model", "on_abstain", "targets", "answered_by", "trace_drafts")


def guard(*rules, **fields):
    """A guard that scores by the tiny model."""
    arguments = {name: fields.pop(name) for name in _ARGUMENTS if name in fields}
    return UncertaintyGuard(policy_of(*rules, **fields), arguments.pop("model", tiny()), **arguments)


class OtherModel(BaseChatModel):
    """A chat model of somebody else: it gives one message after the other, again and again, in words.

    Attributes:
        messages: The messages; one that is an error is raised.
        breaks_after: Fail after so many chunks of a stream.
    """

    messages: list
    breaks_after: int | None = None
    given: list = Field(default_factory=list)

    @property
    def _llm_type(self):
        return "other"

    def _next(self, asked):
        self.given.append(asked)
        message = self.messages[(len(self.given) - 1) % len(self.messages)]
        if callable(message):
            message = message(asked)
        if isinstance(message, Exception):
            raise message
        if isinstance(message, str):
            message = AIMessage(
                message, usage_metadata=USAGE, response_metadata={"model_name": "o", "finish_reason": "stop"}
            )
        return message

    def _generate(self, messages, stop=None, run_manager=None, **_):
        return ChatResult(generations=[ChatGeneration(message=self._next(messages))])

    def _stream(self, messages, stop=None, run_manager=None, **_):
        message = self._next(messages)
        words = [f"{word} " for word in message.text.split(" ")]
        words = [*words[:-1], words[-1][:-1]]
        for at, word in enumerate(words):
            if at == self.breaks_after:
                raise ConnectionError("gone")
            is_last = at == len(words) - 1
            facts = {"response_metadata": message.response_metadata, "usage_metadata": message.usage_metadata}
            chunk = ChatGenerationChunk(message=AIMessageChunk(word, **(facts if is_last else {})))
            if run_manager:
                run_manager.on_llm_new_token(word, chunk=chunk)
            yield chunk


def other_model(*messages, **fields):
    return OtherModel(messages=list(messages) or [SAID], **fields)


def guarded_message(text, action="pass", *, by=None, **verdict):
    """What a model says that has a guard of its own, when it is asked.

    Args:
        text: What it says.
        action: What was done.
        by: A guard whose policy its own has too; another's if not given.
        verdict: Further fields.
    """
    plain = {"action": action, "rule": "own", "enforced": True, "message": None, "confidence": 0.5}
    plain |= {"policy": by.policy.digest if by else "another", "profile": None, **verdict}

    def answered(asked):
        carried = sealed(plain, asked=asked, said=parts_of(AIMessage(text)))
        return AIMessage(text, response_metadata={"uncertainty": carried})

    return answered


class Listener(BaseCallbackHandler):
    """Writes down all that it is told, of whatever event."""

    run_inline = True

    def __init__(self):
        self.heard = []

    def __getattribute__(self, name):
        if not name.startswith("on_"):
            return super().__getattribute__(name)
        return lambda *values, **named: self.heard.append((name, values, named))

    def events(self):
        return [name for name, *_ in self.heard]

    def __repr__(self):
        return repr(self.heard)


class AsyncListener(AsyncCallbackHandler):
    """The same within an event loop, of the events that hold answers."""

    def __init__(self):
        self.heard = []

    async def on_llm_new_token(self, token, **named):
        self.heard.append(token)

    async def on_llm_end(self, response, **named):
        self.heard.append(response)

    async def on_chain_end(self, outputs, **named):
        self.heard.append(outputs)

    async def on_chain_error(self, error, **named):
        self.heard.append(error)

    def __repr__(self):
        return repr(self.heard)


def merged(chunks):
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    return whole


def as_json(value):
    """The same value, made sure to survive JSON."""
    return json.loads(json.dumps(value, allow_nan=False))
