"""Verdicts on LangChain messages and in callback events, sealed so that they cannot be forged."""

import hmac
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Literal, NotRequired, TypeGuard, cast, get_args, overload

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.tracers.base import AsyncBaseTracer, BaseTracer
from langchain_core.tracers.context import register_configure_hook
from typing_extensions import TypedDict

from guardrail.escalation.verdict import Verdict, withholds
from guardrail.langchain.answer_parts import AnswerParts, parts_of
from guardrail.policy.evidence import Action
from guardrail.utils.threads import ForkSafeLock

if TYPE_CHECKING:
    from uuid import UUID

    from langchain_core.callbacks.manager import BaseRunManager

__all__ = [
    "SEAL_KEY",
    "VERDICT_EVENT",
    "VERDICT_KEY",
    "CarriedVerdict",
    "TracedVerdict",
    "UncertaintyCallbackHandler",
    "Verdicts",
    "get_uncertainty_callback",
    "is_given",
    "is_verdict",
    "note_in_traces",
    "sealed",
    "traced",
    "unsealed",
    "verdict_of",
    "verdicts_in",
]


class CarriedVerdict(Verdict):
    """A verdict within LangChain: on a message, in a callback event, or in a collection of verdicts.

    Attributes:
        seal: Proof that this process gave the verdict, on which answer and to which question.
        run_id: Id of the model's run, if the verdict comes from an event or was collected.
        review: Decision of the person who reviewed the draft, if any: ``approve``, ``edit`` or ``reject``.
    """

    seal: NotRequired[str]
    run_id: NotRequired[str]
    review: NotRequired[Literal["approve", "edit", "reject"]]


class TracedVerdict(TypedDict):
    """Fields of a verdict in the metadata of a traced run; values are those of the verdict.

    Attributes:
        uncertainty_action: Action of the policy.
        uncertainty_confidence: Probability that the draft is correct, 0 to 1; None if unknown.
        uncertainty_rule: Id of the rule that decided.
        uncertainty_enforced: False if the policy only observes.
        uncertainty_request: Id of the request, as in the decision log and in telemetry.
    """

    uncertainty_action: Action
    uncertainty_confidence: float | None
    uncertainty_rule: str
    uncertainty_enforced: bool
    uncertainty_request: str


# Key of the seal in a verdict.
SEAL_KEY: Final = "seal"

_KEY = secrets.token_bytes(32)

Asked = Sequence[BaseMessage]


def sealed(
    verdict: Verdict, *, asked: Asked | None = None, said: AnswerParts | None = None
) -> CarriedVerdict:
    """Return the verdict with a seal.

    Args:
        verdict: Verdict to seal.
        asked: Messages of the request; without them, the seal holds for no question.
        said: Answer; without it, the seal holds for no answer.
    """
    plain = unsealed(verdict)
    codes = (_code(plain), asked and _code(plain, asked=asked), said and _code(plain, said=said))
    return {**plain, SEAL_KEY: ".".join(code or "" for code in codes)}


def unsealed(verdict: Mapping[str, object]) -> CarriedVerdict:
    """Return the verdict without its seal."""
    return cast("CarriedVerdict", {key: value for key, value in verdict.items() if key != SEAL_KEY})


def is_given(
    verdict: Mapping[str, object], *, asked: Asked | None = None, said: AnswerParts | None = None
) -> bool:
    """Check that this process gave a verdict, on the given question and answer.

    Args:
        verdict: Mapping that claims to be a verdict.
        asked: Request that the verdict must belong to; None to accept any.
        said: Answer that the verdict must belong to; None to accept any.
    """
    seal = verdict.get(SEAL_KEY)
    codes = seal.split(".") if isinstance(seal, str) else []
    if len(codes) != 3:
        return False
    plain = unsealed(verdict)
    try:
        expected = (
            _code(plain),
            codes[1] if asked is None else _code(plain, asked=asked),
            codes[2] if said is None else _code(plain, said=said),
        )
    except (TypeError, ValueError, RecursionError):
        return False
    return all(map(hmac.compare_digest, map(str.encode, codes), map(str.encode, expected)))


def _code(plain: Mapping[str, object], *, asked: Asked | None = None, said: AnswerParts | None = None) -> str:
    what: list[Any] = ["verdict"]
    if asked is not None:
        what = ["asked", [[message.type, str(message.text)] for message in asked]]
    elif said is not None:
        what = ["said", said.words]
    words = json.dumps([plain, *what], sort_keys=True)
    return hmac.new(_KEY, words.encode("utf-8", "surrogatepass"), sha256).hexdigest()[:32]


# Key of the verdict in the ``response_metadata`` of a message.
VERDICT_KEY = "uncertainty"
# Name of a LangChain custom event whose data is a verdict with its run id. It reports verdicts that are not
# on a model's message, because the model itself is not guarded.
VERDICT_EVENT = "uncertainty"


def verdict_of(message: object) -> CarriedVerdict | None:
    """Return the verdict that a message carries; None if it carries none, or something else.

    The verdict is only what the message claims: whoever made the message may have written it. A guard relies
    on a verdict only if this process gave it on this answer.

    Args:
        message: LangChain message, or a chunk of one.
    """
    metadata = getattr(message, "response_metadata", None)
    verdict = metadata.get(VERDICT_KEY) if isinstance(metadata, Mapping) else None
    return {**verdict} if is_verdict(verdict) else None


def is_verdict(value: object) -> TypeGuard[CarriedVerdict]:
    """Whether a value has the form of a verdict: an action, a rule, and whether the action is enforced."""
    return (
        isinstance(value, Mapping)
        and value.get("action") in get_args(Action)
        and isinstance(value.get("enforced"), bool)
        and isinstance(value.get("rule"), str)
    )


def traced(verdict: Verdict) -> TracedVerdict:
    """Select the fields of a verdict for the metadata of a traced run."""
    return TracedVerdict(
        uncertainty_action=verdict["action"],
        uncertainty_confidence=verdict.get("confidence"),
        uncertainty_rule=verdict["rule"],
        uncertainty_enforced=verdict["enforced"],
        uncertainty_request=verdict.get("request", ""),
    )


def note_in_traces(manager: "BaseRunManager | None", verdict: Verdict) -> None:
    """Write a verdict into the metadata of a run in progress, because tracers do not keep custom events.

    Args:
        manager: Callback manager of the run.
        verdict: Verdict on the run.
    """
    if manager is None:
        return
    for handler in manager.handlers:
        if not isinstance(handler, BaseTracer | AsyncBaseTracer):
            continue
        if (run := handler.run_map.get(str(manager.run_id))) is not None:
            # A new dict, since other code may hold the existing one.
            extra = run.extra or {}
            run.extra = {**extra, "metadata": {**(extra.get("metadata") or {}), **traced(verdict)}}


class Verdicts(Sequence[CarriedVerdict]):
    """Verdicts in the order of arrival, each with the ``run_id`` of the model's run.

    Each run has one verdict, even if several arrive. The last one counts, since an outer guard decides after
    an inner one, but a verdict that withholds the answer is never replaced.
    """

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._verdicts: list[CarriedVerdict] = []

    def add(self, verdict: CarriedVerdict, run_id: "UUID | str") -> None:
        """Add the verdict on a run; it replaces an earlier one unless that withholds the answer."""
        new: CarriedVerdict = {**verdict, "run_id": str(run_id)}
        with self._lock:
            for at, known in enumerate(self._verdicts):
                if known["run_id"] == new["run_id"]:
                    self._verdicts[at] = known if withholds(known) else new
                    return
            self._verdicts.append(new)

    @overload
    def __getitem__(self, index: int) -> CarriedVerdict: ...
    @overload
    def __getitem__(self, index: slice) -> list[CarriedVerdict]: ...
    def __getitem__(self, index: int | slice) -> CarriedVerdict | list[CarriedVerdict]:
        with self._lock:
            return self._verdicts[index]

    def __len__(self) -> int:
        return len(self._verdicts)

    def __repr__(self) -> str:
        return f"Verdicts({self[:]!r})"


class UncertaintyCallbackHandler(BaseCallbackHandler):
    """Callback handler that collects verdicts, for ``config={"callbacks": [handler]}``.

    Use it where the ``with`` block of :func:`get_uncertainty_callback` does not fit. It collects verdicts
    only, and never receives a withheld draft. It ignores verdicts that no guard of this process gave, or that
    one gave on another answer.

    Attributes:
        verdicts: Verdicts collected so far.
    """

    run_inline = True

    def __init__(self, outer: "UncertaintyCallbackHandler | None" = None) -> None:
        self.verdicts = Verdicts()
        self._outer = outer

    def add(self, verdict: CarriedVerdict, run_id: "UUID | str") -> None:
        """Add a verdict, here and to the enclosing handlers."""
        self.verdicts.add(verdict, run_id)
        if self._outer is not None:
            self._outer.add(verdict, run_id)

    def on_llm_end(self, response: LLMResult, *, run_id: "UUID", **_: Any) -> None:
        """Collect the verdicts that a model's messages carry."""
        for verdict in verdicts_in(response):
            self.add(verdict, run_id)

    def on_custom_event(self, name: str, data: Any, *, run_id: "UUID", **_: Any) -> None:
        """Collect a verdict that is reported by an event instead of a message."""
        if name == VERDICT_EVENT and is_verdict(data) and is_given(data):
            self.add(data, data.get("run_id", run_id))


_listening: ContextVar[UncertaintyCallbackHandler | None] = ContextVar("guardrail_verdicts", default=None)
# Registered once, at import, because LangChain never removes a hook.
register_configure_hook(_listening, inheritable=True)


@contextmanager
def get_uncertainty_callback() -> Iterator[Verdicts]:
    """Collect the verdicts on everything that runs within the block.

    Verdicts are collected through parsers, branches, agents, tasks and threads that LangChain starts. A block
    collects from its own runs and from nested blocks, but not from other threads, tasks or requests.

    Examples:
        >>> with get_uncertainty_callback() as verdicts:
        ...     text = (prompt | ChatGuardrail(policy="builtin:default") | StrOutputParser()).invoke(question)
        >>> verdicts[-1]["action"], verdicts[-1]["confidence"]

    Yields:
        The verdicts; more are added as they arrive.
    """
    handler = UncertaintyCallbackHandler(_listening.get())
    token = _listening.set(handler)
    try:
        yield handler.verdicts
    finally:
        _listening.reset(token)


def verdicts_in(response: LLMResult) -> list[CarriedVerdict]:
    """Return the verdicts on a model's messages that this process gave on these very messages."""
    messages = [
        generation.message
        for generations in response.generations
        for generation in generations
        if isinstance(generation, ChatGeneration)
    ]
    return [
        verdict
        for message in messages
        if (verdict := verdict_of(message)) is not None and is_given(verdict, said=parts_of(message))
    ]
