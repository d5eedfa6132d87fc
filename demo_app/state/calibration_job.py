"""A calibration in its own thread: it survives reruns and reloads, and can be cancelled and resumed."""

import json
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

import streamlit as st

from demo_app.state.error_messages import sentence
from guardrail.calibration.held_out import write_held_out
from guardrail.calibration.options import FitOptions, Shares
from guardrail.calibration.profile import Guarantee, write_profile
from guardrail.calibration.splits import check_number
from guardrail.labelling.answers import AnswerRecord
from guardrail.labelling.collection import Collected, collect
from guardrail.labelling.judges import as_judge
from guardrail.labelling.questions import LabelOptions, Questions, of_one_author, parse_questions
from guardrail.models.sampling import Sampling
from guardrail.utils.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from guardrail import LocalModel
    from guardrail.calibration.fit import Fitted

__all__ = ["Calibration", "CalibrationRequest", "begin", "calibration_of"]


_GUARANTEES = [Guarantee(error, 0.95) for error in (0.05, 0.1, 0.2, 0.3)]
# Small batches, so that cancelling is quick and the chat does not wait long for the model.
_BATCH = 4


@dataclass(frozen=True, slots=True)
class CalibrationRequest:
    """What to calibrate.

    Attributes:
        questions: The lines of the uploaded file.
        model: The model's name.
        judge: Name of the judge that labels answers as right or wrong.
        max_tokens: Maximum length of an answer.
    """

    questions: str
    model: str
    judge: str = "contains"
    max_tokens: int = 64

    @property
    def key(self) -> str:
        """Identifies the stored answers that a run may resume from; the judge does not matter for that."""
        given = json.dumps([self.questions, self.model, self.max_tokens])
        return sha256(given.encode()).hexdigest()[:16]


class Calibration:
    """One calibration run.

    Attributes:
        request: What was requested.
        stage: The current stage, how much of it is done, and its total.
        fitted: The profile with its held-out answers, once there is one.
        problem: The error in a sentence, if the run failed.
        is_cancelled: Whether the run was cancelled; its answers are kept.
        refused: How many lines of the file were skipped.
        shapes: How the lines say what is right.
    """

    def __init__(
        self, request: CalibrationRequest, folder: Path, open_model: "Callable[[], LocalModel]"
    ) -> None:
        self.request = request
        self.profile_path = folder / "profile.json"
        self.stage: tuple[str, int, int | None] = ("starting", 0, None)
        self.fitted: Fitted | None = None
        self.problem = ""
        self.is_cancelled = False
        self.refused = 0
        self.shapes = ""
        self._folder = folder
        self._open_model = open_model
        self._stop = Event()
        self._thread = Thread(target=self._run, name="guardrail-calibration", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether the thread is running."""
        return self._thread.is_alive()

    @property
    def is_stopping(self) -> bool:
        """Whether the run was told to stop."""
        return self._stop.is_set()

    def cancel(self) -> None:
        """Stop after the current batch."""
        self._stop.set()

    def _run(self) -> None:
        try:
            self.fitted = self._fitted()
        except _CancelledError:
            self.is_cancelled = True
        except Exception as error:  # noqa: BLE001  (shown on the page)
            self.problem = sentence(error)

    def _fitted(self) -> "Fitted":
        judge = as_judge(self.request.judge)
        lines = self.request.questions.split("\n")
        parsed = parse_questions(lines, judge_needs_answers=judge.needs_answers)
        parsed, author = of_one_author(parsed, None, self.request.model)
        self.refused, self.shapes = len(parsed.refused), parsed.shapes
        _check(parsed)
        self._folder.mkdir(parents=True, exist_ok=True)
        questions = self._folder / "questions.jsonl"
        write_whole(questions, self.request.questions)
        collected = collect(
            parsed,
            judge,
            self._folder / "answers.jsonl",
            self._open_model,
            LabelOptions(sampling=Sampling(self.request.max_tokens), batch_size=_BATCH, answered_by=author),
            model_name=self.request.model,
            progress=self._note,
        )
        self.refused = len(collected.failures)
        self._note("fitting", 0, None)
        # Imported late: it loads scikit-learn.
        from guardrail.calibration.calibrate import calibrate

        return self._kept(calibrate(collected, questions, FitOptions(guarantees=_GUARANTEES)), collected)

    def _kept(self, fitted: "Fitted", collected: Collected[AnswerRecord]) -> "Fitted":
        write_profile(fitted.profile, self.profile_path)
        if fitted.profile.is_calibrated:
            from guardrail.calibration.splits import redraw

            held_out = redraw(fitted.profile, collected.records)
            write_held_out(fitted.profile, held_out, self.profile_path.with_name("profile.held-out.jsonl"))
        return fitted

    def _note(self, stage: str, done: int, total: int | None) -> None:
        self.stage = (stage, done, total)
        # Gives a chat waiting for the model its turn.
        time.sleep(0.02)
        if self._stop.is_set():
            raise _CancelledError


class _CancelledError(Exception):
    """The visitor pressed Cancel."""


def begin(request: CalibrationRequest, data: Path, open_model: "Callable[[], LocalModel]") -> Calibration:
    """Start a run, or join a running one that answers the same questions."""
    runs, lock = _runs()
    with lock:
        running = runs.get(request.key)
        if running is None or not running.is_running:
            running = runs[request.key] = Calibration(
                request, data / "calibrations" / request.key, open_model
            )
            running.start()
    return running


def calibration_of(key: str | None) -> Calibration | None:
    """The run with this key, if there was one since the demo was started."""
    return _runs()[0].get(key or "")


def _check(parsed: Questions) -> None:
    """Refuse too few questions at once, rather than after minutes of answering them."""
    if any(question.accepted or question.correct is not None for question in parsed.usable):
        check_number(len(parsed.usable), Shares())


@st.cache_resource(show_spinner=False)
def _runs() -> tuple[dict[str, Calibration], Lock]:
    return {}, Lock()
