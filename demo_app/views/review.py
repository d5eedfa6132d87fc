"""The review page: answers waiting for a person, and that person's verdicts."""

import getpass

import streamlit as st

from demo_app.components.badges import text
from demo_app.session import Queue, label_lines, queues, read
from demo_app.settings import plain, sentence, shown
from guardrail.errors import OptionError
from guardrail.escalation.case import Item, ReviewLabel
from guardrail.reports.formatting import percent

__all__ = ["page"]

_CHOICES: dict[str, ReviewLabel] = {
    "Right": "approve",
    "Wrong": "reject",
    "Wrong, and I know the right answer": "edit",
}
_SAID = {"approve": "right", "reject": "wrong", "edit": "wrong, corrected"}
_PROBLEM = "review.problem"
_LONGEST = 60


def page() -> None:
    """Draw the page."""
    st.title("Review")
    st.markdown(
        "Answers waiting for a person. Mark each right or wrong; labels are saved at once and can be used in "
        "the next calibration."
    )
    with shown():
        urls = queues()
        url = st.selectbox("Queue", urls) if len(urls) > 1 else urls[0]
        found = read(url)
        if found.waiting:
            _review(found)
        else:
            _nothing(bool(found.answered))
        if found.answered:
            _show_answered(found)


def _nothing(was_busy: bool) -> None:
    if was_busy:
        st.success("All done.", icon=":material/done_all:")
        return
    st.info(
        "Nothing to review yet. Only a policy with **action: escalate** sends answers here: choose "
        "**human-review** on the Policy page, apply it to the chat, and ask something hard.",
        icon=":material/inbox:",
    )


def _review(found: Queue) -> None:
    items = {item.ticket: item for item in found.waiting}
    ticket = st.selectbox(
        f"Waiting: {len(items):,}",
        list(items),
        # Two items may have the same question, so titles include the ticket.
        format_func=lambda ticket: _titled(items[ticket]) if ticket in items else ticket,
        help="Oldest first.",
    )
    item = items.get(ticket) or found.waiting[0]
    with st.container(border=True):
        if item.problem:
            # Nobody can judge an answer that cannot be read.
            st.error(plain(item.problem), icon=":material/error:")
            return
        _show(item)
        _ask(item, found)


def _show(item: Item) -> None:
    case = item.case
    *before, asked = case.messages or ({"role": "user", "content": ""},)
    if before:
        with st.expander(f"Earlier messages ({len(before)})"):
            for message in before:
                _quote(str(message.get("role", "")).capitalize(), str(message.get("content", "")))
    _quote("Question", str(asked.get("content", "")))
    _quote("The model’s answer (not shown)", case.draft or "(none)")
    sure = "unknown" if case.confidence is None else percent(case.confidence)
    why = f"Rule **{plain(case.rule)}**: {plain(case.reason)}. Confidence: {sure}."
    st.caption(f"{why} {plain(case.model)}, {item.created[:16].replace('T', ' ')} UTC.")


def _ask(item: Item, found: Queue) -> None:
    key = f"review.{item.ticket}"
    choice = st.radio(
        "Was the model right?", list(_CHOICES), index=None, key=f"{key}.choice", horizontal=True
    )
    verdict = _CHOICES.get(choice or "")
    if verdict == "edit":
        st.text_area("The right answer", key=f"{key}.text", height=100)
    st.session_state.setdefault("review.name", _user())
    name, save = st.columns([2, 1], vertical_alignment="bottom")
    by = name.text_input("Your name", value=st.session_state["review.name"], key="review.by")
    st.session_state["review.name"] = by
    save.button(
        "Save",
        type="primary",
        icon=":material/check:",
        disabled=verdict is None,
        on_click=_save,
        args=(found, item, key, verdict),
        width="stretch",
    )
    problem = st.session_state.pop(_PROBLEM, "")
    if problem:
        st.error(plain(problem), icon=":material/error:")


def _save(found: Queue, item: Item, key: str, verdict: ReviewLabel) -> None:
    correction = st.session_state.get(f"{key}.text", "") if verdict == "edit" else None
    by = str(st.session_state.get("review.by") or "").strip()
    try:
        if not by:
            raise OptionError("Enter your name.")
        found.queue.answer(item.ticket, verdict, correction, by=by)
    except Exception as error:  # noqa: BLE001  (a callback cannot draw: shown beside the button)
        st.session_state[_PROBLEM] = sentence(error)
    else:
        st.toast(f"Saved: {_SAID[verdict]}.", icon=":material/check:")


def _show_answered(found: Queue) -> None:
    lines = label_lines()
    with st.expander(f"Answered: {len(found.answered):,}", icon=":material/history:"):
        for item in reversed(found.answered):
            said = item.answer
            if said is None:
                continue
            _quote(_SAID[said.verdict].capitalize(), item.problem or _question(item))
            if said.text is not None:
                _quote("The right answer", said.text)
            st.caption(f"by {plain(said.by)}, {said.at[:16].replace('T', ' ')} UTC")
    st.download_button(
        "Download the labels",
        lines,
        "labels.jsonl",
        "application/jsonl",
        icon=":material/download:",
        on_click="ignore",
        help="JSON Lines, as guardrail calibrate reads them.",
    )
    st.caption(
        "To use these labels, add them on the Calibration page. Add them to other questions: these answers "
        "were held back by a policy, so a profile made from them alone would not hold for all traffic."
    )


def _quote(label: str, said: str) -> None:
    parts = f'<div class="gr-soft">{text(label)}</div><div class="gr-text">{text(said)}</div>'
    st.html(f'<div class="gr">{parts}</div>')


def _question(item: Item) -> str:
    return str(item.case.messages[-1].get("content", "")) if item.case.messages else ""


def _titled(item: Item) -> str:
    line = "Cannot be read" if item.problem else " ".join(_question(item).split())
    short = line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
    return f"{short} · {item.ticket[:8]}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""
