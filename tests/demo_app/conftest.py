import pytest

from tests.support.chat import save_tiny_chat

streamlit = pytest.importorskip("streamlit", reason="streamlit is not installed")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    return save_tiny_chat(tmp_path_factory.mktemp("tiny-chat"))


@pytest.fixture
def demo(model_folder, one_thread, monkeypatch, tmp_path):
    """The demo as it starts, with the tiny model and a data folder of its own."""
    monkeypatch.setenv("GUARDRAIL_DEMO_MODEL", str(model_folder))
    monkeypatch.setenv("GUARDRAIL_DEMO_POLICY", "builtin:default")
    monkeypatch.setenv("GUARDRAIL_DEMO_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    streamlit.cache_resource.clear()
    yield monkeypatch
    streamlit.cache_resource.clear()
