"""The Streamlit script: page navigation and the side bar with answer counts, the policy, and the model."""

import json
from importlib import import_module
from pathlib import Path

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from demo_app.components.badges import add_style, counts_html
from demo_app.model_pool import house
from demo_app.session import Session, begin_anew, choose_policy, state
from demo_app.settings import plain, settings, shown
from guardrail.models.files.reference import BUILTIN_MODELS, ModelReference
from guardrail.policy.yaml_document import BUILTIN, builtin_policies

__all__ = ["choose_model", "main", "sidebar"]


_HERE, _HUB = "Built in", "Hugging Face hub"


@st.dialog("Choose a model")
def choose_model() -> None:
    """Ask for a model and open it."""
    kind = st.radio("Where it comes from", [_HERE, _HUB], horizontal=True)
    if kind == _HERE:
        name = st.selectbox("Model", _offered(), format_func=lambda one: one.rpartition("/")[2])
        about = BUILTIN_MODELS.get(name)
        if about is not None:
            size = f"{about.parameters / 1e6:.0f} million parameters"
            st.caption(f"{about.description}, {size}, {about.licence}.")
        st.caption("To use a folder or .gguf file of this machine, start the demo with --model.")
    else:
        name = st.text_input("Model", placeholder="owner/name")
    st.caption("The model is shared by everyone using this page. Changing it starts a new conversation.")
    if st.button("Open", type="primary", width="stretch"):
        with shown():
            _open(name if kind == _HERE else str(ModelReference.parse(name, local=False)))
            st.rerun()


def _offered() -> list[str]:
    """The built-in models, and the model that the demo was started with if it is a path."""
    began = settings().model
    return [*BUILTIN_MODELS, *([began] if Path(began).is_absolute() else [])]


def _open(name: str) -> None:
    """Open a model with a progress bar, and use it from now on.

    Raises:
        GuardrailError: It cannot be opened; the previous model stays.
    """
    bar = st.progress(0.0, text="Opening…")

    def tell(stage: str, done: int, total: int | None) -> None:
        bar.progress(min(1.0, done / total) if total else 0.0, text=f"{stage.capitalize()}…")

    house().model(name, tell)
    session = state()
    session.models.append(name)
    if session.model_name != name:
        # A profile and a conversation belong to one model.
        session.model_name, session.profile_path, session.begins = name, None, True


_READY = "sidebar.policy"


def sidebar() -> None:
    """Draw the side bar."""
    session = state()
    with st.sidebar:
        st.html(counts_html(session.answers))
        st.button(
            "New chat",
            icon=":material/add_comment:",
            width="stretch",
            on_click=begin_anew,
            args=(session,),
            disabled=not session.turns and session.asking is None,
        )
        _policy(session)
        _model(session)
        if session.turns and session.asking is None:
            read_ahead()


def _policy(session: Session) -> None:
    ready = [f"{BUILTIN}{name}" for name in builtin_policies()]
    own = session.policy_source not in ready or not _is_untouched(session)
    options = ["", *ready] if own else ready
    name = session.policy.name if session.policy else "none"
    st.session_state[_READY] = "" if own else session.policy_source
    st.selectbox(
        "Policy",
        options,
        key=_READY,
        format_func=lambda source: source.removeprefix(BUILTIN) if source else f"{name} (your own)",
        on_change=_choose_policy,
        help="Decides which answers are shown. See and edit it on the Policy page.",
    )
    if session.policy is not None and session.policy.description:
        st.caption(plain(session.policy.description))
    if session.mistakes:
        st.caption(":material/error: The edited policy has errors; the previous one is still active.")
    if session.profile_path is not None:
        st.caption(f"Using your calibration: {plain(session.profile_path.name)}")
        st.button("Switch back to the default calibration", on_click=_take_back_profile, type="tertiary")


def _model(session: Session) -> None:
    is_open = house().holds(session.model_name)
    st.markdown(f"**Model** {plain(session.model_name)}")
    st.caption("Ready." if is_open else "Loading; the first answer takes a few seconds more.")
    if st.button("Choose another model", icon=":material/swap_horiz:", width="stretch"):
        choose_model()


def _is_untouched(session: Session) -> bool:
    name = session.policy_source.removeprefix(BUILTIN)
    return session.policy_text == builtin_policies()[name].read_text(encoding="utf-8")


def _choose_policy() -> None:
    if source := st.session_state[_READY]:
        choose_policy(source)


def _take_back_profile() -> None:
    state().profile_path = None


# Streamlit's script files for elements that the chat does not use; a content hash follows each name.
_FILES = ("TextArea", "Slider", "DownloadButton", "FileUploader", "ArrowVegaLiteChart", "embed")


def read_ahead() -> None:
    """Prefetch script files for the other pages; a name that this version of Streamlit lacks is skipped."""
    if names := _names():
        code = f"for (const name of {json.dumps(names)}) import('./static/js/' + name).catch(() => {{}})"
        st.html(f"<script>{code}</script>", unsafe_allow_javascript=True)


@st.cache_data(show_spinner=False)
def _names() -> list[str]:
    folder = Path(st.__file__).parent / "static" / "static" / "js"
    return [found.name for file in _FILES for found in folder.glob(f"{file}.*.js")]


_PAGES = {
    "Chat": "chat",
    "Compare": "compare_arrows",
    "Policy": "rule",
    "Calibration": "tune",
    "Review": "rate_review",
}
_ICON = Path(__file__).with_name("icon.svg")


def main() -> None:
    """Draw the selected page."""
    # An icon given by name would be fetched from the network.
    st.set_page_config(page_icon=_ICON)
    chosen = st.navigation([_page(title, icon) for title, icon in _PAGES.items()])
    wide = chosen.title in ("Compare", "Policy", "Calibration")
    st.set_page_config(
        page_title=f"{chosen.title} · guardrail",
        page_icon=_ICON,
        layout="wide" if wide else "centered",
    )
    add_style()
    with shown():
        sidebar()
        chosen.run()


def _page(title: str, icon: str) -> StreamlitPage:
    """A page whose module is imported when it is opened: calibration's imports alone take a second."""
    name = title.lower()

    def page() -> None:
        import_module(f"demo_app.views.{name}").page()

    return st.Page(page, title=title, icon=f":material/{icon}:", url_path=name, default=name == "chat")


if __name__ == "__main__":
    main()
