"""A question while it is being answered, in a thread of its own: pages look in on it, and can stop it."""

import threading
from asyncio import CancelledError
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from demo_app.parts.errors import sentence
from guardrail.errors import ForeignProfileError, InvalidInputError

if TYPE_CHECKING:
    from demo_app.parts.models import House
    from guardrail import GuardedAnswer, Policy

__all__ = ["Asking", "Stage"]

Stage = Literal["opening", "waiting", "answering", "done"]
_STOPPED = "Stopped before it was finished."


@dataclass(frozen=True, slots=True)
class _Loading:
    words: str
    done: int
    total: int | None


class Asking:
    """One question to one guard. Everything but :meth:`stop` and :meth:`start` is for reading.

    Attributes:
        question: What is asked.
        messages: The conversation that ends with it.
        policy: What decides.
        model_name: What answers.
        heard: The draft as far as it is written, where the policy shows it before the verdict.
        tokens: How many tokens were written so far.
        loading: What is done to open the model.
        answer: What came of it; None as long as nothing did, or if nothing could.
        problem: Why nothing came of it, as a sentence.
    """

    def __init__(
        self, messages: Sequence[Mapping[str, Any]], policy: "Policy", model_name: str, house: "House"
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
        """How far it is."""
        return "done" if self._done.is_set() else self._stage

    @property
    def ahead(self) -> int:
        """How many questions of anybody are answered before this one."""
        return self._house.ahead(self.model_name, self)

    def start(self) -> "Asking":
        """Begin, in another thread."""
        threading.Thread(target=self._run, daemon=True, name="guardrail-demo").start()
        return self

    def stop(self) -> None:
        """Give up at the next token."""
        self._stopped.set()

    def wait(self, seconds: float) -> bool:
        """Wait until it is done, or for so long; says whether it is."""
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
        # Not before the model is open: it loads torch.
        from guardrail.models.steering import Steering

        live = self.policy.streaming == "annotate"
        steering = Steering(on_text=self._hear if live else None, goes_on=self._goes_on)
        with self._house.in_line(self.model_name, self):
            self._stage = "waiting"
            return guard.ask(self.messages, steering=steering)

    def _load(self, stage: str, done: int, total: int | None) -> None:
        self.loading = _Loading(stage, done, total)
        if self._stopped.is_set():
            raise CancelledError

    def _hear(self, piece: str) -> None:
        self.heard += piece

    def _goes_on(self) -> bool:
        # Asked after every token, and not before it is this question's turn.
        self._stage = "answering"
        self.tokens += 1
        return not self._stopped.is_set()


def _with_way_out(error: Exception) -> str:
    said = sentence(error)
    if isinstance(error, ForeignProfileError):
        return f"{said} Or take back your own profile, or choose another policy, in the side bar."
    if isinstance(error, InvalidInputError):
        return f"{said} You can start a new chat in the side bar."
    return said
