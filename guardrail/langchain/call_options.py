"""What a chat model is told at call time, and what it was told when it was made."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Literal, get_args

from guardrail.errors import OptionError
from guardrail.langchain.showing import OnAbstain
from guardrail.models.sampling import Sampling

__all__ = ["CallOptions", "check_names"]

# What LangChain and others' code pass to any chat model, and what means nothing to a local one.
_IGNORED = frozenset({"parallel_tool_calls", "stream", "stream_usage", "streaming", "strict"})


@dataclass(frozen=True, slots=True)
class CallOptions:
    """Options of one call.

    Attributes:
        max_tokens: Most tokens of the answer.
        temperature: 0 for greedy decoding.
        top_p: Draw from the smallest set of tokens with this much probability.
        seed: Makes drawing repeatable.
        stop: Strings that end the answer.
        timeout: Seconds that the caller waits for the verdict; None for as long as it takes.
        on_abstain: What happens where nothing answers.
        policy_tags: What the policy's rules may go by.
        tools: Functions that the model may call, as chat templates read them.
        tool_choice: ``auto``, or ``any`` where one of the tools must be called.
        json_schema: What the answer is held to; None for nothing.
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

    def __post_init__(self) -> None:
        if self.on_abstain not in get_args(OnAbstain):
            raise OptionError(
                f"on_abstain is {self.on_abstain!r}; it can be {', '.join(get_args(OnAbstain))}."
            )
        for name in ("max_tokens", "temperature", "top_p", "seed", "timeout"):
            value = getattr(self, name)
            number = int if name in ("max_tokens", "seed") else int | float
            if value is not None and (not isinstance(value, number) or isinstance(value, bool)):
                kind = "whole number" if number is int else "number"
                raise OptionError(f"{name} is {value!r}; give a {kind}.")
        if self.timeout is not None and not self.timeout > 0:
            raise OptionError(f"timeout is {self.timeout:g}; it is a number of seconds, more than 0.")
        _ = self.sampling

    @property
    def sampling(self) -> Sampling:
        """How to decode.

        Raises:
            OptionError: A value is out of its range.
        """
        return Sampling(self.max_tokens, self.temperature, self.top_p, self.seed, self.stop)

    def changed(self, stop: Sequence[str] | None, given: Mapping[str, Any]) -> "CallOptions":
        """These options with what a call gives; None gives nothing.

        Raises:
            OptionError: An option is unknown, or out of its range.
        """
        known = [field.name for field in fields(self)]
        values = {name: getattr(self, name) for name in known}
        if stop is not None:
            values["stop"] = _texts("stop", stop)
        for name, value in given.items():
            if name in ("policy_tags", "stop") and value is not None:
                values[name] = _texts(name, value)
            elif name in known and value is not None:
                values[name] = tuple(value) if name == "tools" else value
            elif name not in known and name not in _IGNORED and value is not None:
                near = get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"It takes {', '.join(known)}."
                raise OptionError(f"The chat model has no option {name!r}; {hint}")
        return CallOptions(**values)


def check_names(given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse what is a slip of the pen; other names are ignored, as LangChain's chat models do.

    Raises:
        OptionError: A name is nearly one of those known.
    """
    for name in given:
        near = get_close_matches(name, known, n=1, cutoff=0.8)
        if near and name not in known:
            raise OptionError(f"The chat model has no option {name!r}; did you mean {near[0]}?")


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not all(isinstance(one, str) for one in value):
        raise OptionError(f"{name} is a list of texts, such as [{str(value)!r}].")
    return tuple(value)
