"""Options of a single chat model call, which override the model's fields; in a config they are refused."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.runnables import Runnable, RunnableConfig

from guardrail.errors import OptionError
from guardrail.langchain.reply import OnAbstain, schema_asked
from guardrail.langchain.tool_parsing import offer
from guardrail.models.sampling import Sampling, check_number
from guardrail.utils.text import did_you_mean

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

__all__ = ["FIELD_ALIASES", "CallOptions", "ConfigCheckedChatModel", "named_fields"]


# Names that other LangChain chat models use for the same options.
ALIASES = {"max_completion_tokens": "max_tokens", "request_timeout": "timeout", "stop_sequences": "stop"}
# The same for the fields of a chat model.
FIELD_ALIASES = {**ALIASES, "model_name": "model"}
# Fields of a chat model that are also options of its calls.
_FIELDS = (
    "max_tokens",
    "temperature",
    "top_p",
    "seed",
    "timeout",
    "max_reasoning_tokens",
    "on_abstain",
    "policy_tags",
)
_TEXTS = ("policy_tags", "stop")
# Options that other code passes to any chat model: the values that need no action, and what to do otherwise.
_AS_IT_IS: Mapping[str, tuple[tuple[Any, ...], str]] = {
    "n": ((1,), "one answer is given; ask again for another"),
    "parallel_tool_calls": ((True, False), "it is True or False"),
    # LangChain itself reads this option and decides whether to stream.
    "stream": ((True, False), "it is True or False"),
    "stream_usage": ((True,), "the tokens that were used are told with the last chunk"),
    "strict": ((True, False), "it is True or False"),
}
# Option values that can only be honored if a call must be made, since only such a call is constrained.
_HELD_CALLS = {"parallel_tool_calls": False, "strict": True}
_ANOTHER_MODEL = ("model", "model_name")


@dataclass(frozen=True, slots=True)
class CallOptions:
    """Options of a single call.

    Attributes:
        max_tokens: Maximum number of tokens in the answer.
        temperature: Sampling temperature; 0 for greedy decoding.
        top_p: Cumulative probability of the smallest set of tokens to sample from.
        seed: Seed that makes sampling repeatable.
        stop: Strings that end the answer.
        on_abstain: What to return or raise if the answer is withheld and nothing replaces it.
        policy_tags: Tags that the policy's rules can match.
        timeout: Seconds that the caller waits for the verdict; None for no limit.
        tools: Functions that the model may call, in the form that chat templates read.
        tool_choice: ``auto``, or ``any`` if one of the tools must be called.
        json_schema: JSON schema that constrains the answer; None for no constraint.
        max_reasoning_tokens: Maximum number of tokens for reasoning before the answer.
        chat_template_kwargs: Arguments of the chat template, which override the guard's.
    """

    max_tokens: int
    temperature: float
    top_p: float
    seed: int | None
    stop: tuple[str, ...]
    on_abstain: OnAbstain
    policy_tags: tuple[str, ...]
    timeout: float | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: Literal["auto", "any"] = "auto"
    json_schema: Mapping[str, Any] | None = None
    max_reasoning_tokens: int | None = None
    chat_template_kwargs: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.on_abstain not in get_args(OnAbstain):
            raise OptionError(
                f"on_abstain is {self.on_abstain!r}; it can be {', '.join(get_args(OnAbstain))}."
            )
        if self.timeout is not None:
            check_number("timeout", self.timeout)
            if not self.timeout > 0:
                raise OptionError(f"timeout is {self.timeout:g}; it is a number of seconds, more than 0.")
        _ = self.sampling

    @classmethod
    def of_fields(cls, given: Mapping[str, Any], sampling: Sampling) -> "CallOptions":
        """Make the default options from the fields of a chat model.

        Args:
            given: Fields of a chat model; other keys are ignored.
            sampling: Sampling settings for fields that are not set.

        Raises:
            OptionError: A value is out of range.
        """
        plain = cls(
            max_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
            stop=sampling.stop,
            max_reasoning_tokens=sampling.max_reasoning_tokens,
            on_abstain="message",
            policy_tags=(),
        )
        return plain.changed(given.get("stop"), {name: given.get(name) for name in _FIELDS})

    @property
    def sampling(self) -> Sampling:
        """Sampling settings.

        Raises:
            OptionError: A value is out of range.
        """
        return Sampling(
            self.max_tokens,
            self.temperature,
            self.top_p,
            self.seed,
            self.stop,
            max_reasoning_tokens=self.max_reasoning_tokens,
        )

    def changed(self, stop: Sequence[str] | None, given: Mapping[str, Any]) -> "CallOptions":
        """Return these options, overridden by those of a call; a value of None overrides nothing.

        Raises:
            OptionError: An option is unknown, out of range, or given under two names with different values.
        """
        known = [field.name for field in fields(self)]
        values = {name: getattr(self, name) for name in known}
        asked = in_own_names([*given.items(), ("stop", stop)])
        for name, value in asked.items():
            if name in _ANOTHER_MODEL:
                raise OptionError(
                    f"A call has no option {name!r}: a profile is of one model, and another model is another "
                    "ChatGuardrail."
                )
            if name not in (*known, "response_format", *_AS_IT_IS):
                names = (*known, "response_format", *ALIASES)
                raise OptionError(f"The chat model has no option {name!r}{did_you_mean(name, names)}")
            if value is None:
                continue
            if name in _AS_IT_IS:
                check_as_it_is(name, value)
            elif name in known:
                values[name] = _texts(name, value) if name in _TEXTS else value
        values |= offer(values["tools"], values["tool_choice"])
        for name, value in _HELD_CALLS.items():
            if asked.get(name) is value and values["tools"] and values["tool_choice"] != "any":
                raise OptionError(
                    f"{name} is {value}, but only a call that must be made is held to a form. Leave it out, "
                    'or have a tool called: tool_choice="any".'
                )
        if (schema := schema_asked(asked.get("response_format"))) is not None:
            if values["json_schema"] not in (None, schema):
                raise OptionError("json_schema and response_format are two forms of an answer; give one.")
            values["json_schema"] = schema
        return CallOptions(**values)


def named_fields(given: Mapping[str, Any], known: Mapping[str, "FieldInfo"]) -> dict[str, Any]:
    """Resolve aliases to the names of a chat model's fields.

    Args:
        given: Values by field name or alias.
        known: Fields of the model.

    Raises:
        OptionError: A name is unknown, or a field is given twice with different values.
    """
    named = in_own_names(given.items(), FIELD_ALIASES)
    for name in [*named.keys() - known.keys()]:
        value = named.pop(name)
        if name == "api_key":
            # Generic code passes a key to every chat model; a local model does not need one.
            continue
        if value is not None and name == "max_retries":
            check_number(name, value, whole=True, least=0)
        elif value is not None and name in ("n", "stream_usage"):
            check_as_it_is(name, value)
        elif value is not None or name not in ("max_retries", "n", "stream_usage"):
            names = (*known, *FIELD_ALIASES)
            raise OptionError(f"ChatGuardrail has no option {name!r}{did_you_mean(name, names)}")
    # None is dropped unless it is the field's default.
    return {name: value for name, value in named.items() if value is not None or known[name].default is None}


def in_own_names(given: Iterable[tuple[str, Any]], aliases: Mapping[str, str] = ALIASES) -> dict[str, Any]:
    """Resolve aliases to this project's option names; None yields to a value given under another name.

    Args:
        given: Pairs of an option's name or alias and its value.
        aliases: Option names by alias.

    Raises:
        OptionError: An option is given twice with different values.
    """
    named: dict[str, tuple[str, Any]] = {}
    for name, value in given:
        own = aliases.get(name, name)
        first, before = named.get(own, (name, None))
        if before is None:
            named[own] = (name, value)
        elif value is not None and not _are_equal(before, value):
            raise OptionError(
                f"{first} is {before!r} and {name} is {value!r}; they are one option, so give it once."
            )
    return {own: value for own, (_, value) in named.items()}


def check_as_it_is(name: str, value: Any) -> None:
    """Check that an option only asks for what is done anyway.

    Raises:
        OptionError: The option asks for something else.
    """
    values, instead = _AS_IT_IS[name]
    if not any(type(value) is type(one) and value == one for one in values):
        raise OptionError(f"{name} is {value!r}, which cannot be followed: {instead}.")


def _are_equal(one: Any, other: Any) -> bool:
    return (list(one) == list(other)) if _is_list(one) and _is_list(other) else bool(one == other)


def _is_list(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | Mapping)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not _is_list(value) or not all(isinstance(one, str) for one in value):
        raise OptionError(f"{name} is a list of texts, such as [{str(value)!r}].")
    return tuple(value)


class ConfigCheckedChatModel(BaseChatModel):
    """A LangChain chat model that refuses its own options in a config, where they would be ignored."""

    def with_config(self, config: RunnableConfig | None = None, **kwargs: Any) -> Runnable[Any, Any]:
        """Bind a config, as in LangChain, unless it holds an option of the model, which would be ignored.

        Raises:
            OptionError: The config holds an option of the model.
        """
        given = {**(config or {}), **kwargs}
        self._check_names((*given, *(given.get("configurable") or ())))
        return super().with_config(config, **kwargs)

    # The calls below do not check ``configurable``: any part of an app may use any name there.

    def invoke(
        self,
        input: LanguageModelInput,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Invoke the model, as in LangChain; an option of the model in the config is an error."""
        self._check_names(config or ())
        return super().invoke(input, config, stop=stop, **kwargs)

    async def ainvoke(
        self,
        input: LanguageModelInput,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Async version of :meth:`invoke`."""
        self._check_names(config or ())
        return await super().ainvoke(input, config, stop=stop, **kwargs)

    def stream(
        self,
        input: LanguageModelInput,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """Streaming version of :meth:`invoke`."""
        self._check_names(config or ())
        yield from super().stream(input, config, stop=stop, **kwargs)

    async def astream(
        self,
        input: LanguageModelInput,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """Async version of :meth:`stream`."""
        self._check_names(config or ())
        chunks: Any = super().astream(input, config, stop=stop, **kwargs)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    def _check_names(self, given: Iterable[str]) -> None:
        """Check that no key of a config is an option of the model, which would be ignored there."""
        options = {*type(self).model_fields, *FIELD_ALIASES} - RunnableConfig.__annotations__.keys()
        for name in given:
            if name in options:
                raise OptionError(
                    f"{name} is no part of a config; bind it: chat.bind({name}=…), or make it one with "
                    "configurable_fields."
                )
