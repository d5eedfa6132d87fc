"""Verdicts on LangChain's messages and for whoever listens, sealed so that nobody else can write one."""

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
    """A verdict within LangChain: on a message, in an event, or where verdicts are collected.

    Attributes:
        seal: Shows that this process gave the verdict, on which answer and to which question.
        run_id: Of the model's run, where the verdict was told by an event or collected.
        review: What a person decided on the draft, where one did: ``approve``, ``edit`` or ``reject``.
    """

    seal: NotRequired[str]
    run_id: NotRequired[str]
    review: NotRequired[Literal["approve", "edit", "reject"]]


class TracedVerdict(TypedDict):
    """What the metadata of a run in a trace says of the verdict on it; each as in the verdict.

    Attributes:
        uncertainty_action: What was done.
        uncertainty_confidence: Probability that the draft is correct, 0 to 1; None where it is not known.
        uncertainty_rule: Id of the rule that decided.
        uncertainty_enforced: False where the policy only observes.
        uncertainty_request: Id of the request, as in the decision log and in telemetry.
    """

    uncertainty_action: Action
    uncertainty_confidence: float | None
    uncertainty_rule: str
    uncertainty_enforced: bool
    uncertainty_request: str


# Where a verdict has its seal.
SEAL_KEY: Final = "seal"

_KEY = secrets.token_bytes(32)

Asked = Sequence[BaseMessage]


def sealed(
    verdict: Verdict, *, asked: Asked | None = None, said: AnswerParts | None = None
) -> CarriedVerdict:
    """The verdict with a seal.

    Args:
        verdict: What was decided.
        asked: What was asked; the seal holds for no question where it is not given.
        said: What was answered; the seal holds for no answer where it is not given.
    """
    plain = unsealed(verdict)
    codes = (_code(plain), asked and _code(plain, asked=asked), said and _code(plain, said=said))
    return {**plain, SEAL_KEY: ".".join(code or "" for code in codes)}


def unsealed(verdict: Mapping[str, object]) -> CarriedVerdict:
    """The verdict without its seal."""
    return cast("CarriedVerdict", {key: value for key, value in verdict.items() if key != SEAL_KEY})


def is_given(
    verdict: Mapping[str, object], *, asked: Asked | None = None, said: AnswerParts | None = None
) -> bool:
    """Whether this process gave a verdict, and for what is named here.

    Args:
        verdict: What is taken for a verdict.
        asked: If given, it must have been given for an answer to this.
        said: If given, it must have been given for this answer.
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


# Where a message has its verdict: in ``response_metadata``.
VERDICT_KEY = "uncertainty"
# A custom event of LangChain, whose data is a verdict and the run that it is of: for verdicts that are on no
# message of a model, because the model is not guarded itself.
VERDICT_EVENT = "uncertainty"


def verdict_of(message: object) -> CarriedVerdict | None:
    """The verdict that a message carries; None where it has none, or nothing that is one.

    It is what the message says of itself. Whoever made the message may have written it: a guard goes by a
    verdict only if this process gave it for this answer.

    Args:
        message: A message of LangChain, whole or a chunk.
    """
    metadata = getattr(message, "response_metadata", None)
    verdict = metadata.get(VERDICT_KEY) if isinstance(metadata, Mapping) else None
    return {**verdict} if is_verdict(verdict) else None


def is_verdict(value: object) -> TypeGuard[CarriedVerdict]:
    """Whether a value can be believed to be a verdict: it says what was done, and whether that counts."""
    return (
        isinstance(value, Mapping)
        and value.get("action") in get_args(Action)
        and isinstance(value.get("enforced"), bool)
        and isinstance(value.get("rule"), str)
    )


def traced(verdict: Verdict) -> TracedVerdict:
    """What the metadata of a run says of the verdict on it."""
    return TracedVerdict(
        uncertainty_action=verdict["action"],
        uncertainty_confidence=verdict.get("confidence"),
        uncertainty_rule=verdict["rule"],
        uncertainty_enforced=verdict["enforced"],
        uncertainty_request=verdict.get("request", ""),
    )


def note_in_traces(manager: "BaseRunManager | None", verdict: Verdict) -> None:
    """Write a verdict into the metadata of a run that goes on: tracers keep no events of their own kind.

    Args:
        manager: Of the run.
        verdict: What was decided.
    """
    if manager is None:
        return
    for handler in manager.handlers:
        if not isinstance(handler, BaseTracer | AsyncBaseTracer):
            continue
        if (run := handler.run_map.get(str(manager.run_id))) is not None:
            # Anew: others may hold the one that is there.
            extra = run.extra or {}
            run.extra = {**extra, "metadata": {**(extra.get("metadata") or {}), **traced(verdict)}}


class Verdicts(Sequence[CarriedVerdict]):
    """Verdicts in the order in which they came, each with the ``run_id`` of the model's run.

    One run has one verdict here, however many ways it came: the last, since a guard around another decides
    after it; one that withholds stays.
    """

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._verdicts: list[CarriedVerdict] = []

    def add(self, verdict: CarriedVerdict, run_id: "UUID | str") -> None:
        """Add the verdict of a run, or put it in the place of the one that is there."""
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
    """Collects verdicts; for ``config={"callbacks": [handler]}`` where a ``with`` block does not fit.

    It reads nothing else, and it is told of verdicts only: never of a draft that is withheld. Verdicts that
    no guard of this process gave, or that one gave on another answer, are not collected.

    Attributes:
        verdicts: What came.
    """

    run_inline = True

    def __init__(self, outer: "UncertaintyCallbackHandler | None" = None) -> None:
        self.verdicts = Verdicts()
        self._outer = outer

    def add(self, verdict: CarriedVerdict, run_id: "UUID | str") -> None:
        """Take a verdict, and tell whoever listens around this one."""
        self.verdicts.add(verdict, run_id)
        if self._outer is not None:
            self._outer.add(verdict, run_id)

    def on_llm_end(self, response: LLMResult, *, run_id: "UUID", **_: Any) -> None:
        """Read the verdicts that a model's messages carry."""
        for verdict in verdicts_in(response):
            self.add(verdict, run_id)

    def on_custom_event(self, name: str, data: Any, *, run_id: "UUID", **_: Any) -> None:
        """Read a verdict that is on no message of a model."""
        if name == VERDICT_EVENT and is_verdict(data) and is_given(data):
            self.add(data, data.get("run_id", run_id))


_listening: ContextVar[UncertaintyCallbackHandler | None] = ContextVar("guardrail_verdicts", default=None)
# Once: LangChain keeps what is registered for ever.
register_configure_hook(_listening, inheritable=True)


@contextmanager
def get_uncertainty_callback() -> Iterator[Verdicts]:
    """Collect the verdicts of everything that runs within the block.

    It reads them through anything: parsers, branches, agents, threads that LangChain starts, and tasks. A
    block sees what runs in it, and in blocks within it, and nothing of other threads, tasks or requests.

    Examples:
        >>> with get_uncertainty_callback() as verdicts:
        ...     text = (prompt | ChatGuardrail(policy="builtin:default") | StrOutputParser()).invoke(question)
        >>> verdicts[-1]["action"], verdicts[-1]["confidence"]

    Yields:
        The verdicts, as they come.
    """
    handler = UncertaintyCallbackHandler(_listening.get())
    token = _listening.set(handler)
    try:
        yield handler.verdicts
    finally:
        _listening.reset(token)


def verdicts_in(response: LLMResult) -> list[CarriedVerdict]:
    """The verdicts that the messages of a model's result carry, as far as this process gave them on these."""
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
