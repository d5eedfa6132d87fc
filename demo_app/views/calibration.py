"""The calibration page: make a profile from questions with known answers, and use it in the chat."""

from datetime import UTC, datetime

import streamlit as st

from demo_app.components.vega_charts import show_report
from demo_app.state.calibration_job import Calibration, CalibrationRequest, begin, calibration_of
from demo_app.state.error_messages import plain, shown
from demo_app.state.model_pool import house
from demo_app.state.policy_draft import keep, made_here, use
from demo_app.state.queues import label_lines
from demo_app.state.session import state
from demo_app.state.settings import settings
from guardrail.reports.formatting import counted
from guardrail.utils.json_lines import split_lines

__all__ = ["page"]

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
