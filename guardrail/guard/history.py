"""A conversation as a model is asked: without the turns whose answers were withheld.

A model that finds a policy's words in its own mouth says them again, and is sure of them. What was put in an
answer's place is the policy's, and the question before it got no answer: neither is part of a later prompt.
The warning beside a flagged answer is the policy's too. What a target answered, another model or a person,
stays: it is what was said.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from guardrail.escalation.verdict import withholds
from guardrail.guard.answer import DEFAULT_MESSAGES, UNCHECKED
from guardrail.policy.messages import Notice, Notices

if TYPE_CHECKING:
    from guardrail.policy.model import Policy

__all__ = ["VERDICT_FIELD", "History", "notices_of", "spoken"]

# Where a message that is a dict has the verdict on it; LangChain's have it within ``response_metadata``.
VERDICT_FIELD = "uncertainty"

_USER = ("user", "human")
_ASSISTANT = ("assistant", "ai", "model")
_TOOL = ("tool", "function", "ipython")
# How errors begin that an app may have shown in an answer's place.
_ERRORS = ("The policy withheld the answer", "The model's answer could not be read")


class History(NamedTuple):
    """A conversation as it is put to a model.

    Attributes:
        messages: Its messages, without what is a policy's.
        kept: Where among the messages that were given each of them stands.
        turns_left_out: How many turns of which something is left out.
    """

    messages: list[Any]
    kept: list[int]
    turns_left_out: int = 0


def notices_of(policy: "Policy") -> Notices:
    """What stands for a withheld answer, or beside a flagged one, under a policy."""
    named = f"The policy {policy.name!r} withheld the answer"
    defaults = [
        *(Notice(text, action, "") for action, text in DEFAULT_MESSAGES.items()),
        *(Notice(text, "abstain", "") for text in (UNCHECKED, *_ERRORS, named)),
    ]
    return Notices([*policy.notices, *defaults])


def spoken(messages: Sequence[Any], notices: Notices | None, *, below: bool = False) -> History:
    """A conversation without the turns whose answers were withheld, and without a policy's warnings.

    An answer was withheld where the verdict that it carries says so (whoever gave it: to leave a turn out is
    the safe side), or where it repeats a message of the policy. It goes with the tool calls that it makes and
    their results, and with the question before it, unless that got another answer. System messages stay, and
    so does the question that waits for an answer.

    Args:
        messages: What was said, each with ``role`` and ``content``; an answer may carry its verdict
            (``GuardedAnswer.as_plain()``) as ``uncertainty``, or within its ``response_metadata``.
        notices: What the policy says; None to leave out nothing.
        below: Whether the policy's words may stand below sentences that were shown. What was shown is what
            was said: it stays, without them.
    """
    kept: list[tuple[int, Any]] = []
    left_out = 0
    if notices is None:
        return History(list(map(_plain, messages)), [*range(len(messages))])
    turns = list(_turns(messages))
    for number, turn in enumerate(turns, start=1):
        rest = _rest([(at, messages[at]) for at in turn], notices, below=below)
        if len(rest) < len(turn):
            left_out += 1
            if number < len(turns) and not any(_answers(message) for _, message in rest):
                rest = [one for one in rest if _role(one[1]) not in (*_USER, *_ASSISTANT, *_TOOL)]
        kept += rest
    return History([_plain(message) for _, message in kept], [at for at, _ in kept], left_out)


def _turns(messages: Sequence[Any]) -> Iterator[list[int]]:
    """The places of messages by turn: questions, and what followed on them. The last waits for an answer."""
    turn: list[int] = []
    has_answer = False
    for at, message in enumerate(messages):
        role = _role(message)
        if role in _USER and has_answer:
            yield turn
            turn, has_answer = [], False
        turn.append(at)
        has_answer = has_answer or role in (*_ASSISTANT, *_TOOL)
    yield turn


def _rest(turn: Sequence[tuple[int, Any]], notices: Notices, *, below: bool) -> list[tuple[int, Any]]:
    """A turn without its withheld answers, and without the results of calls that they make."""
    rest: list[tuple[int, Any]] = []
    calls: set[str] = set()
    was_withheld = False
    for at, message in turn:
        role = _role(message)
        if role in _ASSISTANT:
            said = _said(message, notices, below=below)
            was_withheld = said is None
            if said is None:
                calls |= _calls(message)
                continue
            message = said
        elif role in _TOOL:
            call = message.get("tool_call_id")
            is_known = isinstance(call, str) and bool(calls)
            if call in calls if is_known else was_withheld:
                continue
        rest.append((at, message))
    return rest


def _said(message: Mapping[str, Any], notices: Notices, *, below: bool) -> Mapping[str, Any] | None:
    """A model's message without a warning beside its answer; None where its answer was withheld."""
    verdict = _verdict(message)
    if withholds(verdict):
        message = {**message, "content": _released(message.get("content"), verdict)}
        return None if not message["content"] or notices.repeated_in(message["content"]) else message
    if below:
        message = {**message, "content": _above(message.get("content"), notices)}
    own, flag, content = [notices], verdict.get("message"), message.get("content")
    if verdict.get("action") == "flag" and isinstance(flag, str):
        own.append(Notices([Notice(flag.replace("{", "{{").replace("}", "}}"), "flag", "")]))
    parts = content if isinstance(content, list) else [content]
    left = [rest for part in parts for rest in _without(part, own)]
    if left != parts:
        if not left and not message.get("tool_calls"):
            return None
        message = {**message, "content": left if isinstance(content, list) else "".join(left)}
    return None if notices.repeated_in(_text(message)) else message


def _released(content: Any, verdict: Mapping[str, Any]) -> str:
    """The sentences that were shown before the rest was withheld; empty unless it is sure which these are."""
    released, words = verdict.get("released"), verdict.get("message")
    shown = released.get("characters") if isinstance(released, Mapping) else None
    if not isinstance(content, str) or not isinstance(words, str) or type(shown) is not int or shown <= 0:
        return ""
    return content[:shown] if content[shown:] == f"\n\n{words}" else ""


def _above(content: Any, notices: Notices) -> Any:
    """A text without a message of the policy in its last paragraph, below others."""
    if not isinstance(content, str):
        return content
    above, _, last = content.rpartition("\n\n")
    return above if above.strip() and notices.repeated_in(last) else content


def _without(part: Any, own: Sequence[Notices]) -> list[Any]:
    """A text, or a block with one, without warnings; nothing where nothing is left of it."""
    text = part.get("text") if isinstance(part, Mapping) else part
    if not isinstance(text, str) or not text:
        return [part]
    for notices in own:
        text = notices.without_flags(text)
    if not text:
        return []
    return [text if isinstance(part, str) else {**part, "text": text}]


def _answers(message: Any) -> bool:
    """Whether a message answers: not where it only calls tools on the way."""
    return _role(message) in _ASSISTANT and not message.get("tool_calls") and bool(_text(message).strip())


def _verdict(message: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = message.get("response_metadata")
    within = metadata.get(VERDICT_FIELD) if isinstance(metadata, Mapping) else None
    found = [one for one in (message.get(VERDICT_FIELD), within) if isinstance(one, Mapping)]
    # One that withholds counts, if any does.
    return next(filter(withholds, found), found[0] if found else {})


def _calls(message: Mapping[str, Any]) -> set[Any]:
    calls = message.get("tool_calls")
    made = calls if isinstance(calls, Sequence) else ()
    return {call["id"] for call in made if isinstance(call, Mapping) and isinstance(call.get("id"), str)}


def _role(message: Any) -> str:
    role = message.get("role") if isinstance(message, Mapping) else None
    return role if isinstance(role, str) else ""


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or message.get("refusal")
    parts = content if isinstance(content, list) else [content]
    said = [
        part if isinstance(part, str) else part.get("text") or part.get("refusal")
        for part in parts
        if isinstance(part, str | Mapping)
    ]
    return "\n".join(one for one in said if isinstance(one, str))


def _plain(message: Any) -> Any:
    """A message without its verdict, which is not for a template to read."""
    if not isinstance(message, Mapping):
        return message
    has_own = VERDICT_FIELD in message
    metadata = message.get("response_metadata")
    has_within = isinstance(metadata, Mapping) and VERDICT_FIELD in metadata
    if not has_own and not has_within:
        return message
    beside = (VERDICT_FIELD, "response_metadata")
    return {name: value for name, value in message.items() if name not in beside}
