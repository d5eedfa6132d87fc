"""Where a policy sends an answer that is not the model's to give: names alone, nothing is opened here."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, Strict, model_validator
from pydantic_core import PydanticCustomError

from guardrail.calibration.plain import PlainData

__all__ = ["ABSTAIN", "KINDS", "Target", "conflict"]

# What a target may name in place of another target; none may be called so.
ABSTAIN = "abstain"
KINDS = ("queue", "chat_model", "callable")

_CALLABLE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_CHAT_MODEL = re.compile(r"[A-Za-z][\w-]*:\S+")
_QUEUE = re.compile(r"sqlite:///[^?#\s](.*[^\s/])?")
_SECRET = re.compile(r"(?i)(api_?key|secret|passw(or)?d|(^|_)token|credentials?)$")


def conflict(text: str) -> PydanticCustomError:
    """Parts that are right each for itself; in a file, ``soundness`` says the same at its place."""
    return PydanticCustomError("conflict", text)


def _checked_callable(value: str) -> str:
    if not _CALLABLE.fullmatch(value):
        raise ValueError(f"is {value[:60]!r}; write module:function, such as my_app.answers:ask_expert")
    return value


def _checked_chat_model(value: str) -> str:
    if not _CHAT_MODEL.fullmatch(value):
        raise ValueError(f"is {value[:60]!r}; write provider:model, such as openai:gpt-5")
    return value


def _checked_queue(value: str) -> str:
    if not _QUEUE.fullmatch(value):
        raise ValueError(f"is {value[:60]!r}; write sqlite:///FILE, such as sqlite:///guardrail.db")
    return value


def _checked_arguments(values: Mapping[str, Any]) -> Mapping[str, Any]:
    secret = next((name for name in values if _SECRET.search(name)), None)
    if secret is not None:
        raise ValueError(
            f"holds {secret}; a policy is shown and logged, so leave secrets to the environment variables "
            "that the provider reads"
        )
    return values


class Target(PlainData):
    """Where an escalated answer goes: one of queue, chat_model and callable."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [kind]} for kind in KINDS]})

    queue: Annotated[str, AfterValidator(_checked_queue)] | None = Field(
        default=None,
        description="People's queue: sqlite:///FILE, from the working directory, or sqlite:////absolute/FILE.",
    )
    chat_model: Annotated[str, AfterValidator(_checked_chat_model)] | None = Field(
        default=None, description="LangChain chat model as provider:model, such as openai:gpt-5."
    )
    callable: Annotated[str, AfterValidator(_checked_callable)] | None = Field(
        default=None, description="Python function as module:function."
    )
    arguments: Annotated[Mapping[str, Any], AfterValidator(_checked_arguments)] = Field(
        default_factory=dict,
        description="Arguments of the chat model, such as {temperature: 0}. No secrets: providers read "
        "theirs from the environment.",
    )
    timeout_s: Annotated[float, Strict(), Field(gt=0, le=3600)] = Field(
        default=60.0, description="Seconds after which the target counts as failed."
    )
    on_error: Annotated[str, Field(min_length=1)] = Field(
        default=ABSTAIN, description="Where to go when it fails: abstain, or the name of another target."
    )

    @property
    def kind(self) -> Literal["queue", "chat_model", "callable"]:
        """Which of the three it is."""
        if self.queue is not None:
            return "queue"
        return "chat_model" if self.chat_model is not None else "callable"

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(value is not None for value in (self.queue, self.chat_model, self.callable)) != 1:
            raise conflict("needs one of queue, chat_model and callable, and only one")
        if self.arguments and self.chat_model is None:
            raise conflict("arguments are for a chat_model")
        return self
