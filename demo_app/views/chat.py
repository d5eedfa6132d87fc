"""The chat page: ask questions, and see each answer with its confidence."""

import streamlit as st

from demo_app.components.answer_card import follow, plain_text, show_answer
from demo_app.components.badges import legend_html
from demo_app.model_pool import Asking, house
from demo_app.session import (
    EXAMPLES,
    ChatTurn,
    Session,
    ask,
    current_policy,
    current_profile,
    finish,
    state,
)
from demo_app.settings import plain, shown

__all__ = ["page"]


def page() -> None:
    """Draw the page."""
    session = state()
    if session.asking is not None and session.asking.wait(0):
        finish(session)
    # An emptied placeholder clears at once; elements that a run leaves out stay greyed until it ends.
    with st.empty():
        if not session.turns and session.asking is None:
            with st.container():
                _welcome(session)
    with shown():
        house().warm_up(current_policy(), session.model_name)
    for turn in session.turns:
        _turn(session, turn)
    with st.empty():
        if session.turns and session.asking is None:
            _more_examples(session)
    question = st.chat_input("Ask a question", disabled=session.asking is not None, max_chars=4000)
    if question and question.strip():
        _ask(session, question.strip())
    if session.asking is not None:
        _question(session.asking.question)
        with st.chat_message("assistant", avatar=":material/smart_toy:"):
            _follow(session, session.asking)


def _welcome(session: Session) -> None:
    st.title("How sure is your model?")
    st.markdown(
        "A small model runs on this computer. For each answer, guardrail estimates how likely it is to be "
        "right, and your policy decides whether to show it."
    )
    st.html(legend_html())
    with st.container(key="examples"):
        for column, (kind, questions) in zip(st.columns(len(EXAMPLES)), EXAMPLES.items(), strict=True):
            column.caption(kind)
            for number, question in enumerate(questions):
                # On a phone only the first example of each kind is shown.
                with column.container(key=f"{'second' if number else 'first'}-{kind}"):
                    if st.button(question, key=f"example-{question}", width="stretch"):
                        _ask(session, question)


def _more_examples(session: Session) -> None:
    asked = {turn.question for turn in session.turns}
    left = [question for some in EXAMPLES.values() for question in some if question not in asked]
    with st.container(key="examples", horizontal=True):
        for question in left[:3]:
            if st.button(question, key=f"example-{question}", icon=":material/lightbulb:", type="tertiary"):
                _ask(session, question)


def _ask(session: Session, question: str) -> None:
    with shown():
        ask(session, question, alone=any(question in some for some in EXAMPLES.values()))
        st.rerun()


def _question(text: str) -> None:
    with st.chat_message("user", avatar=":material/person:"):
        plain_text(text)


def _turn(session: Session, turn: ChatTurn) -> None:
    if turn.is_first and turn is not session.turns[0]:
        st.caption("New conversation", text_alignment="center")
    _question(turn.question)
    with st.chat_message("assistant", avatar=":material/smart_toy:"):
        if turn.answer is not None and turn.policy is not None:
            with shown():
                show_answer(turn.answer, turn.policy, current_profile(), session.revealed)
            return
        if turn.heard:
            plain_text(turn.heard)
        st.warning(plain(turn.problem), icon=":material/error:")


def _follow(session: Session, asking: Asking) -> None:
    """Follow the answer as it is written. It continues in its own thread when the visitor leaves the page."""
    place = st.empty()
    if st.button("Stop", icon=":material/stop_circle:", key="stop"):
        asking.stop()
    else:
        follow([(asking, place)])
    finish(session)
    st.rerun()
