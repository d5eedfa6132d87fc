"""A policy, version 1: everything that may stand in its YAML file, and the targets it names."""

import json
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PrivateAttr, Strict, model_validator
from pydantic_core import PydanticCustomError

from guardrail.policy.conditions import When
from guardrail.policy.evidence import Action
from guardrail.policy.messages import Notice, check_message
from guardrail.utils.frozen_model import FrozenModel

__all__ = [
    "ABSTAIN",
    "KINDS",
    "Log",
    "OnError",
    "OnOutsideDomain",
    "OnUncalibrated",
    "Policy",
    "Rule",
    "Target",
    "conflict",
]


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


class Target(FrozenModel):
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


_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*")


def _as_action(value: Any) -> Any:
    return {"action": value} if isinstance(value, str) else value


def _whole(value: Any) -> Any:
    # True and 1.0 are 1 to Python.
    return value if type(value) is int else repr(value)


def _checked_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(f"is {value[:60]!r}; a name is made of letters, digits, '_', '-' and '.'")
    return value


def _check_target(action: str, to: str | None) -> None:
    if (action == "escalate") != (to is not None):
        raise conflict("to belongs to action: escalate, and escalate needs it")


_Text = Annotated[str, Field(min_length=1)]
_Message = Annotated[str, Field(min_length=1), AfterValidator(check_message)]
_Id = Annotated[str, AfterValidator(_checked_name)]
_MESSAGE = (
    "What is shown with the answer (flag) or in its place (abstain; escalate, while somebody else answers). "
    "Placeholders: {confidence:.0%}, any score such as {hybridgrad}, its place among the profile's as "
    "{quantile_hybridgrad:.0%}, {tokens}, {finish_reason} and {rule}; with escalate also {ticket}, by which "
    "a person's answer is asked for. What is not known reads 'unknown'. {{ and }} stand for braces."
)
_TO = "Name of the target under escalation, where the action is escalate."


class Rule(FrozenModel):
    """One rule. The first whose conditions hold decides."""

    id: _Id = Field(description="Its name, once in a policy: letters, digits, '_', '-' and '.'.")
    when: When | None = Field(
        default=None,
        description="What must hold for the rule to decide, all of it. Without it the rule always decides: "
        "the last rule, and no other, has none.",
    )
    action: Action = Field(
        description="pass (show the answer), flag (show it with a warning), abstain (withhold it) or "
        "escalate (withhold it and ask somebody else)."
    )
    message: _Message | None = Field(default=None, description=_MESSAGE)
    to: _Text | None = Field(default=None, description=_TO)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _check_target(self.action, self.to)
        return self


class OnError(FrozenModel):
    """What happens to an answer that could not be scored or judged. It is never shown."""

    action: Literal["abstain", "escalate"] = Field(default="abstain", description="abstain or escalate.")
    message: _Message | None = Field(default=None, description=_MESSAGE)
    to: _Text | None = Field(default=None, description=_TO)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _check_target(self.action, self.to)
        return self


class OnUncalibrated(FrozenModel):
    """What happens where a rule hangs on what is not known of the answer. It never simply passes."""

    action: Literal["flag", "abstain", "escalate"] = Field(
        default="abstain", description="flag, abstain or escalate."
    )
    message: _Message | None = Field(default=None, description=_MESSAGE)
    to: _Text | None = Field(default=None, description=_TO)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _check_target(self.action, self.to)
        return self


class OnOutsideDomain(FrozenModel):
    """What happens where a rule hangs on what the profile cannot know of such an answer. It never passes."""

    action: Literal["flag", "abstain", "escalate"] = Field(
        default="abstain", description="flag, abstain or escalate."
    )
    message: _Message | None = Field(default=None, description=_MESSAGE)
    to: _Text | None = Field(default=None, description=_TO)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _check_target(self.action, self.to)
        return self


class Log(FrozenModel):
    """Every decision as one line of JSON."""

    file: _Text = Field(
        description="File that lines are added to, from the working directory: no pipe and no device."
    )
    text: Literal["none", "hash", "full"] = Field(
        default="none",
        description="What of questions and answers is logged: nothing, their SHA-256 (which tells a guessed "
        "short text from another), or all of it.",
    )


class Policy(FrozenModel):
    """A policy: what is done with an answer, by how sure the model is of it.

    The first rule that holds decides. Nothing that cannot be scored or decided is ever passed.
    """

    version: Annotated[Literal[1], BeforeValidator(_whole)] = Field(description="Of this schema: 1.")
    name: _Id = Field(description="Letters, digits, '_', '-' and '.'.")
    description: str = Field(default="", description="For whom it is and what it does.")
    extends: _Text | None = Field(
        default=None,
        description="Another policy that this one changes: a path from this file, or builtin:NAME. Rules of "
        "the same id are replaced where they stand, new rules go before all inherited ones, targets of the "
        "same name are replaced, log is merged key by key; whatever else stands here replaces what stands "
        "there.",
    )
    mode: Literal["enforce", "observe"] = Field(
        default="enforce", description="observe decides and records, and shows every answer as it is."
    )
    model: _Text | None = Field(
        default=None, description="Local model that answers: built-in name, folder, .gguf file or hub id."
    )
    chat_template_kwargs: Mapping[str, Any] | None = Field(
        default=None,
        description="Arguments of the local model's chat template, such as enable_thinking: false. They must "
        "be some that it reads. A profile holds for answers under the same ones.",
    )
    scorer_model: _Text | None = Field(
        default=None,
        description="Local model that scores the answers of a model which cannot be looked into, such as one "
        "behind an API.",
    )
    profile: _Text = Field(
        default="auto",
        description="What was learned of the model's answers: a path from this file, builtin:NAME, or auto "
        "for the profile that ships for the model in use. Where none ships, nothing is calibrated.",
    )
    combine: Literal["last", "worst"] = Field(
        default="worst",
        description="Which of several answers of one chain decides: the one that comes off worst, or the "
        "last.",
    )
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)] = Field(
        description="The first that holds decides. The last has no when: the default."
    )
    on_error: Annotated[
        OnError,
        BeforeValidator(_as_action, json_schema_input_type=Literal["abstain", "escalate"] | OnError),
    ] = Field(
        default_factory=OnError,
        description="What happens to an answer that could not be scored or judged: scoring failed, a number "
        "that is none, out of memory. abstain, or {action, to, message}.",
    )
    on_uncalibrated: Annotated[
        OnUncalibrated,
        BeforeValidator(
            _as_action, json_schema_input_type=Literal["flag", "abstain", "escalate"] | OnUncalibrated
        ),
    ] = Field(
        default_factory=OnUncalibrated,
        description="What happens where a rule hangs on what is not known: confidence, certified or quantile "
        "without a profile, a score that was not computed. flag, abstain, or {action, to, message}.",
    )
    on_outside_domain: Annotated[
        OnOutsideDomain,
        BeforeValidator(
            _as_action, json_schema_input_type=Literal["flag", "abstain", "escalate"] | OnOutsideDomain
        ),
    ] = Field(
        default_factory=OnOutsideDomain,
        description="What happens where a rule hangs on what is not known, and the profile does not hold for "
        "the answer: another model gave it than those that the profile is made of. Confidence, certified and "
        "quantile are then unknown. flag, abstain, or {action, to, message}.",
    )
    streaming: Literal["buffer", "annotate"] = Field(
        default="buffer",
        description="buffer shows nothing before the verdict. annotate shows tokens as they come and the "
        "verdict last; not for policies that withhold answers.",
    )
    escalation: Mapping[_Id, Target] = Field(
        default_factory=dict, description="Targets by name, for action: escalate."
    )
    log: Log | None = Field(default=None, description="Where decisions are logged. Nowhere without it.")

    _profile_path: Path | None = PrivateAttr(default=None)
    _inherited: tuple[Notice, ...] = PrivateAttr(default=())

    @property
    def profile_path(self) -> Path | None:
        """The profile's file; None for ``auto``, where it depends on the model in use."""
        return self._profile_path

    @property
    def notices(self) -> tuple[Notice, ...]:
        """All its messages, and those of the policies that it extends, which it may have replaced."""
        outcomes = {name: getattr(self, name) for name in type(self).model_fields if name.startswith("on_")}
        said = [*((rule.id, rule) for rule in self.rules), *outcomes.items()]
        own = [Notice(one.message, one.action, rule) for rule, one in said if one.message is not None]
        return (*own, *self._inherited)

    @property
    def digest(self) -> str:
        """SHA-256 of its resolved content: the same wherever the files lie."""
        return sha256(json.dumps(self.as_plain(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def as_plain(self) -> dict[str, Any]:
        """Its content as a policy file would have it, with every default written out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def found_at(self, profile: Path | None) -> Self:
        """The same policy, which knows where its profile lies."""
        copy = self.model_copy()
        copy._profile_path = profile
        return copy

    def inheriting(self, notices: Iterable[Notice]) -> Self:
        """The same policy, which knows the messages of those that it extends."""
        copy = self.model_copy()
        own = self.notices
        copy._inherited = tuple(one for one in notices if one not in own)
        return copy

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.rules[-1].when is not None or any(rule.when is None for rule in self.rules[:-1]):
            raise conflict("the last rule, and no other, has no when")
        return self
