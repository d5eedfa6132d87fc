"""The model of a policy, version 1: every key of its YAML file, and its escalation targets."""

import json
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PrivateAttr, Strict, model_validator
from pydantic_core import PydanticCustomError

from guardrail.policy.conditions import NO_ESCALATION, NO_PROFILE_OF_SENTENCES, OF_WHOLE_ANSWERS, When
from guardrail.policy.evidence import Action
from guardrail.policy.messages import Notice, check_message
from guardrail.utils.record_store import FrozenModel

__all__ = [
    "ABSTAIN",
    "KINDS",
    "SENTENCES",
    "Log",
    "OnError",
    "OnOutsideDomain",
    "OnUncalibrated",
    "Policy",
    "Rule",
    "Target",
    "Telemetry",
    "conflict",
]


# The value that on_error of a target may have instead of another target's name; reserved.
ABSTAIN = "abstain"
KINDS = ("queue", "chat_model", "callable")
SENTENCES = "sentences"

_CALLABLE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_CHAT_MODEL = re.compile(r"[A-Za-z][\w-]*:\S+")
_QUEUE = re.compile(r"sqlite:///[^?#\s](.*[^\s/])?")
_SECRET = re.compile(r"(?i)(api_?key|secret|passw(or)?d|(^|_)token|credentials?)$")


def conflict(text: str) -> PydanticCustomError:
    """Parts that are valid alone but conflict. For a file, ``lint`` reports the same at its line."""
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
    """Where an escalated answer goes: exactly one of queue, chat_model and callable."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [kind]} for kind in KINDS]})

    queue: Annotated[str, AfterValidator(_checked_queue)] | None = Field(
        default=None,
        description="Review queue: sqlite:///FILE, relative to the working directory, or "
        "sqlite:////absolute/FILE.",
    )
    chat_model: Annotated[str, AfterValidator(_checked_chat_model)] | None = Field(
        default=None, description="LangChain chat model as provider:model, such as openai:gpt-5."
    )
    callable: Annotated[str, AfterValidator(_checked_callable)] | None = Field(
        default=None, description="Python function as module:function."
    )
    arguments: Annotated[Mapping[str, Any], AfterValidator(_checked_arguments)] = Field(
        default_factory=dict,
        description="Arguments of the chat model, such as {temperature: 0}. Not for secrets: providers read "
        "theirs from the environment.",
    )
    timeout_s: Annotated[float, Strict(), Field(gt=0, le=3600)] = Field(
        default=60.0, description="Seconds after which the target counts as failed."
    )
    on_error: Annotated[str, Field(min_length=1)] = Field(
        default=ABSTAIN, description="What to do if the target fails: abstain, or the name of another target."
    )

    @property
    def kind(self) -> Literal["queue", "chat_model", "callable"]:
        """Which of the three keys it has."""
        if self.queue is not None:
            return "queue"
        return "chat_model" if self.chat_model is not None else "callable"

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if sum(value is not None for value in (self.queue, self.chat_model, self.callable)) != 1:
            raise conflict("needs exactly one of queue, chat_model and callable")
        if self.arguments and self.chat_model is None:
            raise conflict("arguments are only for a chat_model")
        return self


_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*")


def _as_action(value: Any) -> Any:
    return {"action": value} if isinstance(value, str) else value


def _whole(value: Any) -> Any:
    # In Python True and 1.0 equal 1.
    return value if type(value) is int else repr(value)


def _checked_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(f"is {value[:60]!r}; a name consists of letters, digits, '_', '-' and '.'")
    return value


def _check_target(action: str, to: str | None) -> None:
    if (action == "escalate") != (to is not None):
        raise conflict("to is only for action: escalate, which needs it")


_Text = Annotated[str, Field(min_length=1)]
_Message = Annotated[str, Field(min_length=1), AfterValidator(check_message)]
_Id = Annotated[str, AfterValidator(_checked_name)]
_MESSAGE = (
    "Shown with the answer (flag) or instead of it (abstain; escalate, while somebody else answers). "
    "Placeholders: {confidence:.0%}, any score such as {hybridgrad}, its quantile in the profile as "
    "{quantile_hybridgrad:.0%}, {tokens}, {finish_reason} and {rule}; with escalate also {ticket}, which "
    "identifies the review of the answer. Unknown values read 'unknown'. Write {{ and }} for braces."
)
_TO = "Name of the target under escalation, if the action is escalate."


class Rule(FrozenModel):
    """A rule. The first rule whose conditions hold decides."""

    id: _Id = Field(description="Unique name: letters, digits, '_', '-' and '.'.")
    when: When | None = Field(
        default=None,
        description="Conditions that must all hold for the rule to decide. Without it the rule always "
        "decides; the last rule has none, and only the last.",
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
    """What happens to an answer that could not be scored or assessed. It is never shown."""

    action: Literal["abstain", "escalate"] = Field(default="abstain", description="abstain or escalate.")
    message: _Message | None = Field(default=None, description=_MESSAGE)
    to: _Text | None = Field(default=None, description=_TO)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _check_target(self.action, self.to)
        return self


class OnUncalibrated(FrozenModel):
    """What happens if a rule depends on something unknown. The answer never simply passes."""

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
    """What happens if a rule depends on what the profile cannot say of the answer. It never passes."""

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
    """Log of every decision, one JSON object per line."""

    file: _Text = Field(
        description="File to append to, relative to the working directory; not a pipe or device."
    )
    text: Literal["none", "hash", "full"] = Field(
        default="none",
        description="What to log of questions and answers: nothing, their SHA-256 (short texts can be "
        "guessed from it), or the full text.",
    )


class Telemetry(FrozenModel):
    """What OpenTelemetry is told beside verdicts and numbers; it has no texts without this."""

    texts: Literal["none", "shown", "full"] = Field(
        default="none",
        description="What spans have of questions and answers: nothing; the question and the text that is "
        "shown; or also withheld drafts.",
    )


class Policy(FrozenModel):
    """A policy: what happens to an answer, depending on how sure the model is.

    The first rule that holds decides. An answer that cannot be scored or decided never passes.
    """

    version: Annotated[Literal[1], BeforeValidator(_whole)] = Field(description="Version of the schema: 1.")
    name: _Id = Field(description="Letters, digits, '_', '-' and '.'.")
    description: str = Field(default="", description="Whom the policy is for and what it does.")
    extends: _Text | None = Field(
        default=None,
        description="Base policy that this one changes: a path relative to this file, or builtin:NAME. Rules "
        "with the same id replace inherited ones in place, new rules go before all inherited ones, targets "
        "with "
        "the same name are replaced, log is merged key by key; every other key replaces the inherited one.",
    )
    mode: Literal["enforce", "observe"] = Field(
        default="enforce", description="observe decides and logs, but shows every answer unchanged."
    )
    model: _Text | None = Field(
        default=None, description="Local model that answers: built-in name, folder, .gguf file or hub id."
    )
    chat_template_kwargs: Mapping[str, Any] | None = Field(
        default=None,
        description="Arguments of the local model's chat template, such as enable_thinking: false. The "
        "template must use them. A profile is valid only for answers with the same arguments.",
    )
    scorer_model: _Text | None = Field(
        default=None,
        description="Local model that scores the answers of a model whose internals are not accessible, such "
        "as one behind an API.",
    )
    profile: _Text = Field(
        default="auto",
        description="Profile of the model's answers: a path relative to this file, builtin:NAME, or auto for "
        "the profile that ships for the model in use. If none ships, nothing is calibrated.",
    )
    combine: Literal["last", "worst"] = Field(
        default="worst",
        description="Which of several answers in one chain decides: the worst, or the last.",
    )
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)] = Field(
        description="The first rule that holds decides. The last has no when: it is the default."
    )
    on_error: Annotated[
        OnError,
        BeforeValidator(_as_action, json_schema_input_type=Literal["abstain", "escalate"] | OnError),
    ] = Field(
        default_factory=OnError,
        description="What happens to an answer that could not be scored or assessed: scoring failed, a score "
        "is not a number, out of memory. abstain, or {action, to, message}.",
    )
    on_uncalibrated: Annotated[
        OnUncalibrated,
        BeforeValidator(
            _as_action, json_schema_input_type=Literal["flag", "abstain", "escalate"] | OnUncalibrated
        ),
    ] = Field(
        default_factory=OnUncalibrated,
        description="What happens if a rule depends on something unknown: confidence, certified or quantile "
        "without a profile, a score that was not computed. flag, abstain, or {action, to, message}.",
    )
    on_outside_domain: Annotated[
        OnOutsideDomain,
        BeforeValidator(
            _as_action, json_schema_input_type=Literal["flag", "abstain", "escalate"] | OnOutsideDomain
        ),
    ] = Field(
        default_factory=OnOutsideDomain,
        description="What happens if a rule depends on something unknown because the profile does not hold "
        "for the answer: another model gave it, or it is under another system message, in "
        "another form or much longer than the profile's answers. Confidence, certified and quantile are then "
        "unknown. flag, abstain, or {action, to, message}.",
    )
    streaming: Literal["buffer", "annotate", "sentences"] = Field(
        default="buffer",
        description="buffer shows nothing before the verdict. annotate shows tokens as they are generated, "
        "the verdict last; not for policies that withhold answers. sentences decides on each sentence and "
        "then shows it, until one is withheld: with a profile of sentences (guardrail calibrate --sentences) "
        "and without conditions on whole answers, escalation, tools or JSON.",
    )
    escalation: Mapping[_Id, Target] = Field(
        default_factory=dict, description="Targets by name, for action: escalate."
    )
    streams: Annotated[tuple[_Text, ...], Field(max_length=64)] = Field(
        default=(),
        description="Tags that divide the traffic where one app serves several kinds of questions, such as "
        "['tenant-*', 'route-*']: requests with the same matching tags are one stream, and whether questions "
        "are familiar is found out for each stream by itself. Without it all requests are one stream.",
    )
    log: Log | None = Field(default=None, description="Where decisions are logged; not logged without it.")
    telemetry: Telemetry | None = Field(
        default=None,
        description="What of questions and answers OpenTelemetry is told: nothing without it.",
    )

    _profile_path: Path | None = PrivateAttr(default=None)
    _inherited: tuple[Notice, ...] = PrivateAttr(default=())

    @property
    def profile_path(self) -> Path | None:
        """The profile's file; None for ``auto``, which depends on the model in use."""
        return self._profile_path

    @property
    def notices(self) -> tuple[Notice, ...]:
        """Its messages, and those of its base policies even if replaced."""
        outcomes = {name: getattr(self, name) for name in type(self).model_fields if name.startswith("on_")}
        said = [*((rule.id, rule) for rule in self.rules), *outcomes.items()]
        own = [Notice(one.message, one.action, rule) for rule, one in said if one.message is not None]
        return (*own, *self._inherited)

    @property
    def digest(self) -> str:
        """SHA-256 of the resolved content; independent of where the files are."""
        return sha256(json.dumps(self.as_plain(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def as_plain(self) -> dict[str, Any]:
        """The content as a policy file would have it, with all defaults written out."""
        values = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        # Left out if empty, so that policies from before streams keep their digest.
        return values if self.streams else {key: value for key, value in values.items() if key != "streams"}

    def found_at(self, profile: Path | None) -> Self:
        """A copy that knows the path of its profile."""
        copy = self.model_copy()
        copy._profile_path = profile
        return copy

    def inheriting(self, notices: Iterable[Notice]) -> Self:
        """A copy that knows the messages of its base policies."""
        copy = self.model_copy()
        own = self.notices
        copy._inherited = tuple(one for one in notices if one not in own)
        return copy

    @model_validator(mode="after")
    def _decides_on_sentences(self) -> Self:
        if self.streaming != SENTENCES:
            return self
        named = [name for rule in self.rules if rule.when for name in rule.when.of_whole_answers]
        if named:
            raise conflict(f"streaming: sentences has no {named[0]}: {OF_WHOLE_ANSWERS[named[0]]}")
        unknown = (self.on_uncalibrated.action, self.on_outside_domain.action)
        if "escalate" in (*(rule.action for rule in self.rules), self.on_error.action, *unknown):
            raise conflict(f"streaming: sentences {NO_ESCALATION}")
        if self.profile == "auto":
            raise conflict(f"streaming: sentences {NO_PROFILE_OF_SENTENCES}")
        return self

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.rules[-1].when is not None or any(rule.when is None for rule in self.rules[:-1]):
            raise conflict("the last rule must have no when, and all others need one")
        return self
