"""The calibration page: make a profile from questions with known answers, and use it in the chat.

A calibration runs in its own thread: it survives reruns and reloads, and can be cancelled and resumed.
"""

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

import streamlit as st

from demo_app.components.vega_charts import show_report
from demo_app.model_pool import house
from demo_app.policy_draft import keep, made_here, use
from demo_app.session import label_lines, state
from demo_app.settings import plain, sentence, settings, shown
from guardrail.calibration.held_out import write_held_out
from guardrail.calibration.options import FitOptions, Shares
from guardrail.calibration.profile import Guarantee, write_profile
from guardrail.calibration.splits import check_number
from guardrail.labelling.answers import AnswerRecord
from guardrail.labelling.collection import Collected, collect
from guardrail.labelling.judges import as_judge
from guardrail.labelling.questions import LabelOptions, Questions, of_one_author, parse_questions
from guardrail.models.sampling import Sampling
from guardrail.reports.formatting import counted
from guardrail.utils.files import write_whole
from guardrail.utils.json_lines import split_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from guardrail import LocalModel
    from guardrail.calibration.fit import Fitted

__all__ = ["Calibration", "CalibrationRequest", "begin", "calibration_of", "page"]


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


_KEY = "calibration.run"
_EXAMPLE = """{"question": "What is the capital of France?", "answers": ["Paris"]}
{"question": "How many legs has a spider?", "answers": ["8", "eight"]}
{"prompt": "Who wrote Faust?", "response": "Goethe.", "correct": true}"""
_JUDGES = {
    "It contains an accepted answer": "contains",
    "It is an accepted answer, word for word": "exact",
    "It has mostly the same words": "f1",
}


def page() -> None:
    """Draw the page."""
    st.title("Calibration")
    st.markdown(
        "Upload questions with known answers. The model answers them, and the result, a **profile**, makes "
        "confidence figures valid for questions like yours."
    )
    with shown():
        _show_in_use()
        run = calibration_of(st.session_state.get(_KEY))
        if run is not None and run.is_running:
            _watch()
            return
        _ask_for_questions(run)
        if run is not None:
            _show_result(run)


def _show_in_use() -> None:
    in_use = state().profile_path
    kept = made_here()
    if in_use is None and not kept:
        return
    st.session_state["calibration.in_use"] = in_use.stem if in_use and in_use.stem in kept else None
    st.selectbox(
        "Active profile",
        list(kept),
        index=None,
        key="calibration.in_use",
        placeholder="The one named by the policy",
        help="Clear it to go back to the profile named by the policy.",
        on_change=lambda: use(kept.get(st.session_state["calibration.in_use"] or "")),
    )


def _ask_for_questions(run: Calibration | None) -> None:
    given = st.file_uploader("Questions, one JSON object per line", type=["jsonl", "json", "txt"])
    with st.expander("File format"):
        st.text(_EXAMPLE)
        st.caption("At least 100 questions, some of which the model answers right and some wrong.")
    with st.expander("Options"):
        judge = st.selectbox("An answer counts as right if", list(_JUDGES))
        longest = st.slider("Maximum answer length (tokens)", 8, 256, 64, step=8)
    labels = label_lines()
    number = labels.count("\n")
    wanted = number > 0 and st.checkbox(
        f"Add labels from the Review page ({counted(number, 'answer')})",
        help="A policy held these answers back, so they are not typical. Add them to other questions.",
    )
    if st.button("Calibrate", type="primary", icon=":material/tune:", disabled=given is None) and given:
        text = "\n".join(split_lines(given.getvalue()))
        if wanted:
            text = f"{text.rstrip()}\n{labels}"
        _start(CalibrationRequest(text, state().model_name, _JUDGES[judge], longest))
        st.rerun()
    if run is None and given is None:
        st.caption("No calibration yet.")


def _start(request: CalibrationRequest) -> None:
    models = house()
    st.session_state[_KEY] = request.key
    # The calibration's thread has no access to this visitor's session state.
    begin(request, settings().data, lambda: models.model(request.model))


@st.fragment(run_every=1.0)
def _watch() -> None:
    run = calibration_of(st.session_state.get(_KEY))
    if run is None or not run.is_running:
        st.rerun()
        return
    stage, done, total = run.stage
    progress = f"{stage.capitalize()}: {done:,} of {total:,}" if total else f"{stage.capitalize()}…"
    st.progress(min(1.0, done / total) if total else 0.0, text=progress)
    st.button(
        "Stopping after this batch…" if run.is_stopping else "Cancel",
        icon=":material/stop_circle:",
        disabled=run.is_stopping,
        on_click=run.cancel,
    )
    st.caption(
        "Calibration continues while you chat and when you leave this page. Answers are kept: after a "
        "cancellation, upload the same file to resume."
    )


def _show_result(run: Calibration) -> None:
    if run.is_cancelled:
        _, done, total = run.stage
        of = f" after {done:,} of {total:,} answers" if total else ""
        st.warning(
            f"Cancelled{of}. The answers are kept. Upload the same file to resume.",
            icon=":material/pause_circle:",
        )
        st.button("Resume", icon=":material/play_arrow:", on_click=_start, args=(run.request,))
    if run.problem:
        st.error(plain(run.problem), icon=":material/error:")
    if run.fitted is None:
        return
    st.divider()
    st.subheader("The profile")
    if run.refused:
        st.warning(f"{counted(run.refused, 'line')} of the file could not be used.")
    if run.shapes:
        st.caption(f"Correctness is given by: {plain(run.shapes)}.")
    _show_saving(run)
    show_report(run.fitted)


def _show_saving(run: Calibration) -> None:
    name, use_it, save = st.columns([2, 2, 1], vertical_alignment="bottom")
    called = name.text_input("Name", value=f"{run.request.model.split('/')[-1]}-{datetime.now(UTC):%Y-%m-%d}")
    if use_it.button("Save and use it in the chat", type="primary", icon=":material/check:", width="stretch"):
        with shown():
            use(keep(run.profile_path, called.strip()))
            st.toast("Now used in the chat.", icon=":material/check:")
    save.download_button(
        "Download",
        run.profile_path.read_bytes(),
        f"{called}.json",
        "application/json",
        icon=":material/download:",
        on_click="ignore",
        width="stretch",
    )
    in_use = state().profile_path
    if in_use is not None and in_use == made_here().get(called.strip()):
        st.success("Used in the chat.", icon=":material/check_circle:")
