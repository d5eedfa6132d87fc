"""The compare page: one question, two policies or two models side by side."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from demo_app.components.answer_card import follow, show_answer
from demo_app.model_pool import Asking, house
from demo_app.session import EXAMPLES, Session, current_policy, profile_of, state
from demo_app.settings import plain, shown
from guardrail.models.files.reference import BUILTIN_MODELS
from guardrail.policy.load import load_policy
from guardrail.policy.yaml_document import BUILTIN, builtin_policies

if TYPE_CHECKING:
    from guardrail import Policy

__all__ = ["page"]

_SIDES = ("Left", "Right")
_CURRENT = "Active policy"
_QUESTIONS = [question for some in EXAMPLES.values() for question in some]


def page() -> None:
    """Draw the page."""
    session = state()
    st.title("Compare")
    st.markdown("One question, two policies or two models side by side.")
    _ask(session)
    if session.compared is not None:
        _results(session.compared)


def _ask(session: Session) -> None:
    with st.form("compare", border=True):
        question = st.selectbox(
            "Question",
            _QUESTIONS,
            index=None,
            placeholder="Type or choose a question",
            accept_new_options=True,
        )
        sides = [
            _side(session, side, column)
            for side, column in zip(_SIDES, st.columns(2, gap="medium"), strict=True)
        ]
        asked = st.form_submit_button("Ask both", type="primary", icon=":material/compare_arrows:")
    if asked and not question:
        st.info("Type or choose a question first.", icon=":material/edit:")
    if asked and question:
        with shown():
            _begin(session, question, sides)


def _side(session: Session, side: str, column: st.delta_generator.DeltaGenerator) -> tuple[str, str]:
    """The policy and model chosen for one side."""
    policies = [_CURRENT, *builtin_policies()]
    models = list(dict.fromkeys([session.model_name, *session.models, *BUILTIN_MODELS]))
    other = next(name for name in ("strict", *policies) if name in policies)
    with column:
        policy = st.selectbox(
            f"{side} policy",
            policies,
            index=0 if side == _SIDES[0] else policies.index(other),
            key=f"compare-policy-{side}",
        )
        model = st.selectbox(
            f"{side} model",
            models,
            key=f"compare-model-{side}",
            help="Models you have opened are listed. Open another one in the side bar.",
        )
    return policy, model


def _begin(session: Session, question: str, sides: Sequence[tuple[str, str]]) -> None:
    for asking in session.compared or ():
        asking.stop()
    messages = [{"role": "user", "content": question}]
    left, right = (Asking(messages, _policy(policy), model, house()) for policy, model in sides)
    session.compared = left.start(), right.start()


def _policy(name: str) -> "Policy":
    return current_policy() if name == _CURRENT else load_policy(f"{BUILTIN}{name}")


def _results(compared: tuple[Asking, Asking]) -> None:
    st.markdown(f"**{plain(compared[0].question)}**")
    waiting = []
    for asking, column in zip(compared, st.columns(2, gap="medium"), strict=True):
        with column.container(border=True):
            st.markdown(f"**{plain(asking.policy.name)}** · {plain(asking.model_name)}")
            if asking.stage == "done":
                _answer(asking)
            else:
                waiting.append((asking, st.empty()))
    if waiting:
        if st.button("Stop", icon=":material/stop_circle:", key="compare-stop"):
            for asking, _ in waiting:
                asking.stop()
        follow(waiting)
        st.rerun()


def _answer(asking: Asking) -> None:
    if asking.answer is None:
        st.warning(plain(asking.problem), icon=":material/error:")
        return
    with shown():
        profile = profile_of(asking.policy, asking.model_name)
        show_answer(asking.answer, asking.policy, profile, state().revealed)
