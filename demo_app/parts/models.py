"""The models that all visitors share: opened once, with guards over them."""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock, RLock, Thread
from typing import TYPE_CHECKING, TypeVar

import streamlit as st

from demo_app.parts.settings import settings
from guardrail.errors import GuardrailError
from guardrail.models.progress import report

if TYPE_CHECKING:
    from guardrail import Guard, LocalModel, Policy
    from guardrail.models.progress import ProgressCallback

__all__ = ["House", "house"]

T = TypeVar("T")

# Two are compared with each other; a third would cost memory that nobody looks at.
_MOST_MODELS = 2
_MOST_GUARDS = 32
_SECONDS_BETWEEN_LOOKS = 0.25


class House:
    """Models by name, guards over them, and the questions that wait for each; for any thread."""

    def __init__(self) -> None:
        self._models: OrderedDict[Hashable, LocalModel] = OrderedDict()
        self._guards: OrderedDict[Hashable, Guard] = OrderedDict()
        self._lines: defaultdict[str, list[object]] = defaultdict(list)
        self._opening = RLock()
        self._progress: tuple[str, int, int | None] | None = None
        self._lock = Lock()

    def holds(self, name: str) -> bool:
        """Whether a model is open."""
        return name in self._models

    def model(self, name: str, progress: "ProgressCallback | None" = None) -> "LocalModel":
        """The model of this name, opened if it is not.

        Args:
            name: Its name.
            progress: Told how far it is, also where somebody else opens one; called in the caller's thread.

        Raises:
            GuardrailError: It cannot be had.
        """

        def tell(stage: str, done: int, total: int | None) -> None:
            self._progress = stage, done, total
            report(progress, stage, done, total)

        return self._kept(self._models, name, _MOST_MODELS, lambda: _opened(name, tell), progress)

    def guard(self, policy: "Policy", name: str, progress: "ProgressCallback | None" = None) -> "Guard":
        """A guard of this policy over this model.

        Raises:
            GuardrailError: The model, the profile or an escalation target cannot be had.
        """
        model = self.model(name, progress)
        path = policy.profile_path
        # A profile may be made anew in the same place.
        changed = path.stat().st_mtime_ns if path is not None and path.exists() else None
        key = (id(model), policy.digest, path, changed)
        return self._kept(self._guards, key, _MOST_GUARDS, lambda: _guarded(policy, model), progress)

    def warm_up(self, policy: "Policy", name: str) -> None:
        """Open a model in the background before it is asked; what goes wrong is said when it is."""

        def open_it() -> None:
            with suppress(GuardrailError):
                self.guard(policy, name)

        if not self.holds(name):
            Thread(target=open_it, daemon=True, name="guardrail-demo-opening").start()

    @contextmanager
    def in_line(self, name: str, one: object) -> Iterator[None]:
        """Count a question among those that wait for a model; the guard itself keeps them in order."""
        with self._lock:
            self._lines[name].append(one)
        try:
            yield
        finally:
            with self._lock:
                self._lines[name].remove(one)

    @property
    def is_asked(self) -> bool:
        """Whether an answer is waited for."""
        with self._lock:
            return any(self._lines.values())

    def ahead(self, name: str, one: object) -> int:
        """How many questions came before this one and are not answered yet."""
        with self._lock:
            line = self._lines[name]
            return line.index(one) if one in line else 0

    def _kept(
        self,
        kept: "OrderedDict[Hashable, T]",
        key: Hashable,
        most: int,
        make: Callable[[], T],
        progress: "ProgressCallback | None",
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
    def _turn(self, progress: "ProgressCallback | None") -> Iterator[None]:
        """One at a time: opening two models at once takes the memory of both and the time of both."""
        while not self._opening.acquire(timeout=_SECONDS_BETWEEN_LOOKS):
            if (told := self._progress) is not None:
                report(progress, *told)
        try:
            yield
        finally:
            self._progress = None
            self._opening.release()


def _opened(name: str, progress: "ProgressCallback") -> "LocalModel":
    from guardrail import LocalModel
    from guardrail.models.reference import ModelReference

    # Of what visitors type, nothing is a path; a relative one may still lead to a folder here.
    local = name == settings().model or Path(name).is_absolute()
    reference = ModelReference.parse(name, local=local)
    return LocalModel.load(reference, progress=progress)


def _guarded(policy: "Policy", model: "LocalModel") -> "Guard":
    from guardrail import Guard

    return Guard(policy, model, sentences=True)


@st.cache_resource(show_spinner=False)
def house() -> House:
    """The one of this process."""
    return House()
