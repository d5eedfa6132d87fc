"""The models shared by all visitors, opened before the first visit, and questions answered in threads."""

import threading
from asyncio import CancelledError
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Lock, RLock, Thread
from time import sleep
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import streamlit as st

from demo_app.settings import environment, sentence, settings
from guardrail.calibration.held_out import builtin_profile
from guardrail.errors import ForeignProfileError, GuardrailError, InvalidInputError
from guardrail.policy.load import check_policy
from guardrail.utils.threads import ProgressCallback, report

if TYPE_CHECKING:
    from guardrail import Guard, GuardedAnswer, LocalModel, Policy

__all__ = ["Asking", "House", "Stage", "house", "open_model"]


T = TypeVar("T")

# Compare needs two; a third would only cost memory.
_MOST_MODELS = 2
_MOST_GUARDS = 32
_SECONDS_BETWEEN_LOOKS = 0.25


class House:
    """Open models by name, their guards, and the questions waiting for each. Thread-safe."""

    def __init__(self) -> None:
        self._models: OrderedDict[Hashable, LocalModel] = OrderedDict()
        self._guards: OrderedDict[Hashable, Guard] = OrderedDict()
        self._lines: defaultdict[str, list[object]] = defaultdict(list)
        self._opening = RLock()
        self._progress: tuple[str, int, int | None] | None = None
        self._lock = Lock()

    def holds(self, name: str) -> bool:
        """Whether the model is open."""
        return name in self._models

    def model(self, name: str, progress: ProgressCallback | None = None) -> "LocalModel":
        """The model of this name, opened if necessary.

        Args:
            name: The model's name.
            progress: Called in this thread with the progress, also while another thread opens the model.

        Raises:
            GuardrailError: The model cannot be opened.
        """

        def tell(stage: str, done: int, total: int | None) -> None:
            self._progress = stage, done, total
            report(progress, stage, done, total)

        return self._kept(self._models, name, _MOST_MODELS, lambda: _opened(name, tell), progress)

    def guard(self, policy: "Policy", name: str, progress: ProgressCallback | None = None) -> "Guard":
        """A guard of this policy over this model.

        Raises:
            GuardrailError: The model, the profile or an escalation target is not available.
        """
        model = self.model(name, progress)
        path = policy.profile_path
        # A profile may be rewritten in place.
        changed = path.stat().st_mtime_ns if path is not None and path.exists() else None
        key = (id(model), policy.digest, path, changed)
        return self._kept(self._guards, key, _MOST_GUARDS, lambda: _guarded(policy, model), progress)

    def warm_up(self, policy: "Policy", name: str) -> None:
        """Open a model in the background; an error is reported when the model is first asked."""

        def open_it() -> None:
            with suppress(GuardrailError):
                self.guard(policy, name)

        if not self.holds(name):
            Thread(target=open_it, daemon=True, name="guardrail-demo-opening").start()

    @contextmanager
    def in_line(self, name: str, one: object) -> Iterator[None]:
        """Count a question as waiting for a model; the guard itself keeps the order."""
        with self._lock:
            self._lines[name].append(one)
        try:
            yield
        finally:
            with self._lock:
                self._lines[name].remove(one)

    @property
    def is_asked(self) -> bool:
        """Whether any question is waiting or being answered."""
        with self._lock:
            return any(self._lines.values())

    def ahead(self, name: str, one: object) -> int:
        """How many unanswered questions came before this one."""
        with self._lock:
            line = self._lines[name]
            return line.index(one) if one in line else 0

    def _kept(
        self,
        kept: OrderedDict[Hashable, T],
        key: Hashable,
        most: int,
        make: Callable[[], T],
        progress: ProgressCallback | None,
    ) -> T:
        with self._lock:
            if key in kept:
                kept.move_to_end(key)
                return kept[key]
        with self._turn(progress):
            if key not in kept:
                made = make()
                with self._lock:
                    kept[key] = made
                    while len(kept) > most:
                        kept.popitem(last=False)
                        if kept is self._models:
                            self._guards.clear()
            return kept[key]

    @contextmanager
    def _turn(self, progress: ProgressCallback | None) -> Iterator[None]:
        """One at a time: opening two models at once would need the memory of both."""
        while not self._opening.acquire(timeout=_SECONDS_BETWEEN_LOOKS):
            if (stage := self._progress) is not None:
                report(progress, *stage)
        try:
            yield
        finally:
            self._progress = None
            self._opening.release()


def _opened(name: str, progress: ProgressCallback) -> "LocalModel":
    from guardrail import LocalModel
    from guardrail.models.files.reference import ModelReference

    # A visitor's input is never a relative path: it could name a folder of this machine.
    local = name == settings().model or Path(name).is_absolute()
    reference = ModelReference.parse(name, local=local)
    return LocalModel.load(reference, progress=progress)


def _guarded(policy: "Policy", model: "LocalModel") -> "Guard":
    from guardrail import Guard

    return Guard(policy, model, sentences=True)


@st.cache_resource(show_spinner=False)
def house() -> House:
    """The pool of this process."""
    return House()


Stage = Literal["opening", "waiting", "answering", "done"]
_STOPPED = "Stopped before it was finished."


@dataclass(frozen=True, slots=True)
class _Loading:
    words: str
    done: int
    total: int | None


class Asking:
    """One question to one guard. Apart from :meth:`start` and :meth:`stop`, for reading only.

    Attributes:
        question: The question.
        messages: The conversation that ends with it.
        policy: The policy that decides.
        model_name: The model that answers.
        heard: The draft so far, if the policy shows it before the verdict.
        tokens: How many tokens have been written.
        loading: Progress of opening the model.
        answer: The answer; None until there is one.
        problem: The error in a sentence, if there is no answer.
    """

    def __init__(
        self, messages: Sequence[Mapping[str, Any]], policy: "Policy", model_name: str, house: House
    ) -> None:
        self.question: str = messages[-1]["content"]
        self.messages = messages
        self.policy = policy
        self.model_name = model_name
        self.heard = ""
        self.tokens = 0
        self.loading = _Loading(f"opening {model_name}", 0, None)
        self.answer: GuardedAnswer | None = None
        self.problem = ""
        self._house = house
        self._stage: Stage = "opening"
        self._stopped = threading.Event()
        self._done = threading.Event()

    @property
    def stage(self) -> Stage:
        """The current stage."""
        return "done" if self._done.is_set() else self._stage

    @property
    def ahead(self) -> int:
        """How many questions, of any visitor, will be answered before this one."""
        return self._house.ahead(self.model_name, self)

    def start(self) -> "Asking":
        """Start answering in another thread."""
        threading.Thread(target=self._run, daemon=True, name="guardrail-demo").start()
        return self

    def stop(self) -> None:
        """Stop at the next token."""
        self._stopped.set()

    def wait(self, seconds: float) -> bool:
        """Wait for the answer at most this long; return whether it is done."""
        return self._done.wait(seconds)

    def _run(self) -> None:
        try:
            self.answer = self._asked()
        except CancelledError:
            self.problem = _STOPPED
        except Exception as error:  # noqa: BLE001  (shown on the page)
            self.problem = _with_way_out(error)
        finally:
            self._done.set()

    def _asked(self) -> "GuardedAnswer":
        guard = self._house.guard(self.policy, self.model_name, self._load)
        # Imported late: it loads torch.
        from guardrail.models.decoding import GenerationControls

        live = self.policy.streaming != "buffer"
        controls = GenerationControls(on_text=self._hear if live else None, goes_on=self._goes_on)
        with self._house.in_line(self.model_name, self):
            self._stage = "waiting"
            return guard.ask(self.messages, controls=controls)

    def _load(self, stage: str, done: int, total: int | None) -> None:
        self.loading = _Loading(stage, done, total)
        if self._stopped.is_set():
            raise CancelledError

    def _hear(self, piece: str) -> None:
        self.heard += piece

    def _goes_on(self) -> bool:
        # Called after every token, so not before it is this question's turn.
        self._stage = "answering"
        self.tokens += 1
        return not self._stopped.is_set()


def _with_way_out(error: Exception) -> str:
    said = sentence(error)
    if isinstance(error, ForeignProfileError):
        return f"{said} Or switch back to the default calibration, or choose another policy, in the side bar."
    if isinstance(error, InvalidInputError):
        return f"{said} You can start a new chat in the side bar."
    return said


# Long enough for a question that waited for the model to take its turn.
_A_MOMENT = 0.2


def open_model() -> None:
    """Open the configured model, then import the other pages. Errors are shown to whoever asks first."""
    given = settings()
    policy = check_policy(given.policy, environment()).policy
    if policy is not None:
        with suppress(GuardrailError):
            house().guard(policy, given.model)
    # Imports hold the interpreter lock, so they wait until no question is being answered.
    sleep(_A_MOMENT)
    while house().is_asked:
        sleep(_A_MOMENT)
    for name in ("compare", "policy", "calibration", "review"):
        import_module(f"demo_app.views.{name}")
    if policy is not None:
        with suppress(GuardrailError):
            _read_known(policy, given.model)


def _read_known(policy: "Policy", model: str) -> None:
    """Work out what the policy page shows, before its first visitor needs it."""
    # Imported late, like that page: it loads NumPy, and its policy is a session's, which needs this file.
    from demo_app.policy_draft import decided, known

    profile = policy.profile_path or builtin_profile(model)
    if profile is not None and (found := known(profile)) is not None:
        decided(policy, found)
