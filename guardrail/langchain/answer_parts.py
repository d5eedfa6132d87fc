"""The parts of any provider's answer: its text, everything beyond text, and the model that gave it.

LangChain parses some tool calls into ``tool_calls``. Providers also put calls elsewhere (a legacy
``function_call``, blocks for calls that their servers run), and add other content: images, audio, results
from their servers, blocks of their own. None of that is scored, so it counts as tool calls, to unknown tools
where no name is found. A model's reasoning is not part of its answer.

A model within a chain is taken to differ from the model that scores its answers, whatever its name. A profile
holds for it only if the user declares it to be the profile's model and nothing in the call contradicts that.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from langchain_core.messages import BaseMessage

from guardrail.errors import OptionError
from guardrail.labelling.provenance import Author, name_problem, same_name

if TYPE_CHECKING:
    from guardrail.escalation.verdict import Verdict
    from guardrail.guard.guard import Guard
    from guardrail.langchain.model_calls import ModelCall

__all__ = [
    "UNSEEN",
    "AnswerCall",
    "AnswerParts",
    "AnsweredBy",
    "ReportedModel",
    "author_of_call",
    "checked_declaration",
    "parts_of",
    "reported_model",
]


# Keys and block types in which providers put a model's reasoning.
_THOUGHTS = frozenset({"reasoning", "reasoning_content", "redacted_thinking", "thinking"})
# Types of blocks that repeat a call which LangChain also parses into ``tool_calls``.
_CALL_BLOCKS = frozenset(
    {"function_call", "invalid_tool_call", "tool_call", "tool_call_chunk", "tool_use", "input_json_delta"}
)
# Keys that a block of plain text may have.
_OF_TEXT = frozenset(
    {"annotations", "cache_control", "citations", "extras", "id", "index", "phase", "text", "type"}
)
# Keys beside the answer that are not part of it: the speaker, reasoning, signatures of reasoning and calls.
_FACTS = _THOUGHTS | {
    "__gemini_function_call_thought_signatures__",
    "__openai_function_call_ids__",
    "__openai_role__",
    "name",
    "prefix",
    "reasoning_details",
    "reasoning_signature",
    "role",
    "thought_signature",
}
# Keys beside the answer for its token usage, its finish reason and the name of its model.
_ACCOUNTS = frozenset({"finish_reason", "model_id", "model_name", "stop_reason", "token_usage", "usage"})


@dataclass(frozen=True, slots=True)
class AnswerCall:
    """A tool call, or any other content beyond text.

    Attributes:
        name: Name of the tool; empty if unknown.
        given: Arguments of the call, or the raw content if it could not be parsed as a call.
        identity: Id of the call, if it has one.
        is_read: Whether it was parsed as a call with a name, so that it can be rendered as one.
    """

    name: str
    given: Any = field(default=None, repr=False)
    identity: str | None = None
    is_read: bool = True


@dataclass(frozen=True)
class AnswerParts:
    """An answer split into text and everything else.

    Attributes:
        text: Text of the answer, refusals included.
        calls: Tool calls and other content beyond text.
    """

    text: str = field(default="", repr=False)
    calls: tuple[AnswerCall, ...] = field(default=(), repr=False)

    @property
    def is_readable(self) -> bool:
        """Whether a text model can read any of it; an empty answer counts as readable."""
        return bool(self.text) or any(call.is_read for call in self.calls) or not self.calls

    @cached_property
    def words(self) -> str:
        """The whole answer as one string; equal answers have equal strings."""
        calls = [[call.name, call.given, call.identity] for call in self.calls]
        return json.dumps([self.text, calls], default=repr, skipkeys=True)


def parts_of(message: BaseMessage) -> AnswerParts:
    """Split a model's message into text and everything else, whatever its provider.

    Args:
        message: Message of a model: a whole message, or the chunks of a stream merged into one.
    """
    known = [*_read_by_langchain(message)]
    texts: list[str] = []
    others: list[AnswerCall] = []
    blocks = [message.content] if isinstance(message.content, str) else message.content
    for block in blocks:
        text = _text_of(block)
        if text is not None:
            texts.append(text)
        elif isinstance(block, dict) and (call := _call_of(block, known)) is not None:
            others.append(call)
    refusal = message.additional_kwargs.get("refusal")
    if isinstance(refusal, str):
        texts.append(refusal)
    # ``parsed`` is the provider's own parsing of the text; it adds nothing if it has the same values.
    beside = {**message.additional_kwargs, **(message.model_extra or {})}
    for key, value in beside.items():
        is_fact = key in _FACTS or (key == "refusal" and isinstance(value, str))
        is_fact = is_fact or (key in _ACCOUNTS and _is_account(value))
        if value and not is_fact and not (key == "parsed" and _is_json_of("".join(texts), value)):
            others += _beside(key, value, known)
    return AnswerParts("".join(texts), (*known, *others))


def _read_by_langchain(message: BaseMessage) -> Iterator[AnswerCall]:
    for call in (*getattr(message, "tool_calls", ()), *getattr(message, "invalid_tool_calls", ())):
        yield AnswerCall(str(call.get("name") or ""), call.get("args"), call.get("id"))


def _text_of(block: Any) -> str | None:
    if isinstance(block, str):
        return block
    kind = block.get("type")
    if kind == "text" and isinstance(block.get("text"), str) and not set(block) - _OF_TEXT:
        return str(block["text"])
    if kind == "refusal" and isinstance(block.get("refusal"), str):
        return str(block["refusal"])
    return None


def _call_of(block: Mapping[str, Any], known: list[AnswerCall]) -> AnswerCall | None:
    """Read a block that is not text as a call; None for reasoning and for a call that is already known."""
    kind = block.get("type")
    if isinstance(kind, str) and kind in _THOUGHTS:
        return None
    if isinstance(kind, str) and kind in _CALL_BLOCKS and _is_known(block, known):
        return None
    value = block.get("value")
    name = next((one for one in (_name(block), _name(value)) if one), "")
    arguments = next((block[key] for key in ("args", "arguments", "input") if key in block), None)
    if name and arguments is not None:
        return AnswerCall(name, arguments, _identity(block))
    return AnswerCall(name, block, is_read=False)


def _beside(key: str, value: Any, known: list[AnswerCall]) -> Iterator[AnswerCall]:
    """Read a field of a message other than its content as calls."""
    if key == "function_call" and _repeats(value, known):
        return
    values = value if isinstance(value, list) and key == "tool_calls" else [value]
    for one in values:
        function = one.get("function", one) if isinstance(one, Mapping) else None
        if key == "tool_calls" and isinstance(one, Mapping) and _is_known(one, known):
            continue
        name = _name(function)
        if name and isinstance(function, Mapping) and "arguments" in function:
            yield AnswerCall(name, function["arguments"], _identity(one))
        else:
            yield AnswerCall(name, {key: one}, is_read=False)


def _is_known(block: Mapping[str, Any], known: list[AnswerCall]) -> bool:
    """Whether a block repeats a known call: one with its id and, if it has a name, the same name.

    A block without an id repeats any known call of the same name.
    """
    identities = {block[key] for key in ("id", "call_id") if isinstance(block.get(key), str)}
    function = block.get("function")
    name = _name(function) or _name(block)
    if not identities:
        return bool(name) and any(name == call.name for call in known)
    return any(call.identity in identities and name in ("", call.name) for call in known)


def _repeats(function: Any, known: list[AnswerCall]) -> bool:
    """Whether a call without an id repeats a known call: same tool, same arguments."""
    arguments = function.get("arguments") if isinstance(function, Mapping) else None
    name = _name(function)
    return isinstance(arguments, str) and any(
        name == call.name and call.is_read and _is_json_of(arguments, call.given) for call in known
    )


def _is_account(value: Any) -> bool:
    """Whether a value is a string, a number, or a mapping of names to numbers."""
    numbers = value.values() if isinstance(value, Mapping) else ()
    return isinstance(value, str | int | float) or (
        isinstance(value, Mapping) and all(one is None or isinstance(one, int | float) for one in numbers)
    )


def _name(value: Any) -> str:
    name = value.get("name") if isinstance(value, Mapping) else None
    return name if isinstance(name, str) else ""


def _identity(value: Mapping[str, Any]) -> str | None:
    identity = value.get("id")
    return identity if isinstance(identity, str) else None


def _is_json_of(text: str, value: Any) -> bool:
    plain = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
    try:
        return bool(json.loads(text) == plain)
    except (ValueError, RecursionError):
        return False


# One name for all models of a chain, or a mapping from the names they report to their names in the profile.
AnsweredBy = str | Mapping[str, str]

# Keys under which answers and requests give the name of the model.
_KEYS = ("model_name", "model", "model_id")
_LONGEST = 80
# Name of a dated release; a request may leave out the date.
_RELEASE = re.compile(r"(.+?)(-\d{4}-\d\d-\d\d|-\d{8}|-\d{6}|-\d{4}|:latest)")
_NOBODY_SAID = "nobody declared it to be of the profile's model (answered_by)"
UNSEEN = Author("a model that was not seen", _NOBODY_SAID)


class ReportedModel(NamedTuple):
    """The model of a call, as the provider and LangChain report it.

    Attributes:
        names: Names of the model in the answer and the request, without duplicates.
        kind: LangChain class that called the model; empty if unknown.
        temperature: Sampling temperature of the request, if it is given.
    """

    names: tuple[str, ...] = ()
    kind: str = ""
    temperature: float | None = None

    @property
    def shown(self) -> str:
        """Name of the model to display."""
        return self.names[0] if self.names else self.kind or UNSEEN.name

    def with_answer(self, *metadata: Mapping[str, Any] | None) -> "ReportedModel":
        """Add the names given in the answer's metadata, ahead of those in the request."""
        return self._replace(names=_once([*_names(*metadata), *self.names]))


def reported_model(serialized: Any, metadata: Any, parameters: Any) -> ReportedModel:
    """Read what LangChain reports about a model at the start of a call.

    Args:
        serialized: Serialized model that LangChain passes to callback handlers.
        metadata: Metadata of the run.
        parameters: Invocation parameters of the call.
    """
    told = serialized if isinstance(serialized, Mapping) else {}
    path = told.get("id")
    kind = path[-1] if isinstance(path, list) and path else told.get("name")
    of_run = metadata.get("ls_model_name") if isinstance(metadata, Mapping) else None
    names = [*([of_run] if isinstance(of_run, str) else []), *_names(parameters)]
    return ReportedModel(
        _once(names), _clean(kind) if isinstance(kind, str) else "", _temperature(parameters, metadata)
    )


def _temperature(*sources: Any) -> float | None:
    for source in sources:
        for key in ("temperature", "ls_temperature"):
            value = source.get(key) if isinstance(source, Mapping) else None
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
    return None


def checked_declaration(answered_by: AnsweredBy | None) -> AnsweredBy | None:
    """Return the declaration if it holds valid model names.

    Raises:
        OptionError: A name is invalid.
    """
    if answered_by is None:
        return None
    names = (
        [*answered_by.keys(), *answered_by.values()] if isinstance(answered_by, Mapping) else [answered_by]
    )
    for name in names:
        if problem := name_problem(name):
            raise OptionError(f"answered_by {problem}.")
    return answered_by


def author_of_call(call: "ModelCall", guard: "Guard", declared: AnsweredBy | None) -> Author | None:
    """Determine which model gave an answer; None for the guard's own model.

    Args:
        call: Model call that gave the answer.
        guard: Guard that decides on the answer.
        declared: Model that the user declares to answer (``answered_by``).
    """
    if call.verdict is not None and _is_own(call.verdict, guard):
        return None
    model = call.model
    if declared is None:
        return Author(model.shown, _NOBODY_SAID)
    if isinstance(declared, str):
        other = next((name for name in model.names if not _is_release(name, declared)), None)
        if other is None:
            return Author(declared)
        return Author(other, f"it was declared to be of {declared}, and its own metadata names another")
    found = {_looked_up(name, declared) for name in model.names or [model.kind]}
    name = found.pop() if len(found) == 1 else None
    return Author(model.shown, _NOBODY_SAID) if name is None else Author(name)


def _is_own(verdict: "Verdict", guard: "Guard") -> bool:
    """Whether, by a verdict of this process, the guard's own model gave the answer under its profile."""
    escalation = verdict.get("escalation")
    if verdict.get("outside_domain") or verdict.get("answered_by") != verdict.get("model"):
        return False
    if isinstance(escalation, Mapping) and escalation.get("source"):
        return False
    if guard.profile_digest is not None:
        # A profile is tied to the model's weights, so its digest identifies the model.
        return bool(verdict.get("profile") == guard.profile_digest)
    return same_name(str(verdict.get("model")), guard.model.name)


def _looked_up(name: str, declared: Mapping[str, str]) -> str | None:
    """Map a reported name to its declared one; a name that is itself a declared value maps to that value."""
    for called, author in declared.items():
        if same_name(called, name):
            return author
    return next((author for author in declared.values() if _is_release(name, author)), None)


def _is_release(name: str, other: str) -> bool:
    """Whether two names are the same, or one names a dated release of the other."""
    if same_name(name, other):
        return True
    pairs = ((name, other), (other, name))
    return any(
        (found := _RELEASE.fullmatch(long.strip())) is not None and same_name(found[1], short)
        for long, short in pairs
    )


def _names(*sources: Any) -> Iterator[str]:
    for source in sources:
        if isinstance(source, Mapping):
            yield from (source[key] for key in _KEYS if isinstance(source.get(key), str))


def _once(names: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(clean for name in names if (clean := _clean(name))))


def _clean(name: str) -> str:
    """Make a name printable on one line, at most 80 characters."""
    printable = "".join(character if character.isprintable() else " " for character in name[:400])
    return " ".join(printable.split())[:_LONGEST]
