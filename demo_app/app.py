"""The Streamlit script: page navigation and the side bar."""

from importlib import import_module
from pathlib import Path

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from demo_app.components.badges import add_style
from demo_app.components.sidebar import sidebar
from demo_app.state.error_messages import shown

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
