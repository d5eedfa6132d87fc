"""The calibration page: from questions with known answers to a profile that the chat is judged by."""

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
    "An accepted answer stands in it": "contains",
    "It is an accepted answer, word for word": "exact",
    "It shares most of its words with one": "f1",
}


def page() -> None:
    """Show it."""
    st.title("Calibration")
    st.markdown(
        "How often the model is right depends on what it is asked. Give questions of your own with their "
        "answers: the model answers them, and what comes out is a **profile**, by which the chat’s "
        "confidences hold for questions like yours."
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
        "Profile that the chat is judged by",
        list(kept),
        index=None,
        key="calibration.in_use",
        placeholder="The one that the policy names",
        help="Clear it to go back to the profile that the policy names.",
        on_change=lambda: use(kept.get(st.session_state["calibration.in_use"] or "")),
    )


def _ask_for_questions(run: Calibration | None) -> None:
    given = st.file_uploader("Questions, one JSON object a line", type=["jsonl", "json", "txt"])
    with st.expander("What a line looks like"):
        st.text(_EXAMPLE)
        st.caption("At least 100 questions, of which the model answers some right and some wrong.")
    with st.expander("Options"):
        judge = st.selectbox("An answer is right if", list(_JUDGES))
        longest = st.slider("Most tokens of an answer", 8, 256, 64, step=8)
    labels = label_lines()
    number = labels.count("\n")
    wanted = number > 0 and st.checkbox(
        f"Add what was labelled on the Review page ({counted(number, 'answer')})",
        help="A policy held these back, so they are not like all traffic: add them to other questions.",
    )
    if st.button("Calibrate", type="primary", icon=":material/tune:", disabled=given is None) and given:
        text = "\n".join(split_lines(given.getvalue()))
        if wanted:
            text = f"{text.rstrip()}\n{labels}"
        _start(CalibrationRequest(text, state().model_name, _JUDGES[judge], longest))
        st.rerun()
    if run is None and given is None:
        st.caption("Nothing was calibrated here yet.")


def _start(request: CalibrationRequest) -> None:
    models = house()
    st.session_state[_KEY] = request.key
    # Nothing of this visitor's session is known on the thread that it runs on.
    begin(request, settings().data, lambda: models.model(request.model))


@st.fragment(run_every=1.0)
def _watch() -> None:
    run = calibration_of(st.session_state.get(_KEY))
    if run is None or not run.is_running:
        st.rerun()
        return
    stage, done, total = run.stage
    told = f"{stage.capitalize()}: {done:,} of {total:,}" if total else f"{stage.capitalize()}…"
    st.progress(min(1.0, done / total) if total else 0.0, text=told)
    st.button(
        "Stopping behind this batch…" if run.is_stopping else "Cancel",
        icon=":material/stop_circle:",
        disabled=run.is_stopping,
        on_click=run.cancel,
    )
    st.caption(
        "It goes on while you chat, and when you leave this page. What is answered is kept: cancelled, the "
        "same file goes on where it stopped."
    )


def _show_result(run: Calibration) -> None:
    if run.is_cancelled:
        _, done, total = run.stage
        of = f" after {done:,} of {total:,} answers" if total else ""
        st.warning(
            f"Cancelled{of}. They are kept, and the same file goes on from there at any time.",
            icon=":material/pause_circle:",
        )
        st.button("Go on", icon=":material/play_arrow:", on_click=_start, args=(run.request,))
    if run.problem:
        st.error(plain(run.problem), icon=":material/error:")
    if run.fitted is None:
        return
    st.divider()
    st.subheader("The profile")
    if run.refused:
        st.warning(f"{run.refused:,} lines of the file could not be used, and do not count.")
    if run.shapes:
        st.caption(f"What is right, by the lines: {plain(run.shapes)}.")
    _show_saving(run)
    show_report(run.fitted)


def _show_saving(run: Calibration) -> None:
    name, use_it, save = st.columns([2, 2, 1], vertical_alignment="bottom")
    called = name.text_input("Name", value=f"{run.request.model.split('/')[-1]}-{datetime.now(UTC):%Y-%m-%d}")
    if use_it.button("Save and use it in the chat", type="primary", icon=":material/check:", width="stretch"):
        with shown():
            use(keep(run.profile_path, called.strip()))
            st.toast("The chat is judged by it from now on.", icon=":material/check:")
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
        st.success("In use in the chat.", icon=":material/check_circle:")
