"""The model chooser: built in, as started, a hub id; what cannot be had is said, and the former one stays."""

import pytest
from streamlit.testing.v1 import AppTest

from guardrail.calibration.profile import write_profile
from guardrail.errors import ModelUnavailableError
from tests.demo_app.test_chat import APP, asked, own_policy
from tests.support.chat import save_tiny_chat
from tests.support.profiles import a_profile


def _chooser():
    from demo_app.app import choose_model
    from demo_app.session import state

    state()
    choose_model()


@pytest.fixture
def dialog(demo):
    return AppTest.from_function(_chooser, default_timeout=60).run()


def opened(app, kind, name):
    app.radio[0].set_value(kind).run()
    app.text_input[0].set_value(name)
    app.button[0].click().run()
    assert not app.exception
    return app


def session_of(app):
    return app.session_state["guardrail"]


def test_what_is_built_in_is_offered_with_its_size_and_licence(dialog):
    assert dialog.radio[0].value == "Built in"
    assert "smollm2-135m" in dialog.selectbox[0].options
    assert any("135 million parameters, Apache-2.0" in one.value for one in dialog.caption)


def test_the_folder_of_the_start_is_opened_for_all_and_begins_a_conversation(dialog, model_folder):
    session_of(dialog).model_name, session_of(dialog).begins = "smollm2-135m", False
    dialog.selectbox[0].set_value(str(model_folder)).run()
    dialog.button[0].click().run()
    assert not dialog.exception
    session = session_of(dialog)
    assert (session.model_name, session.models, session.begins) == (
        str(model_folder),
        [str(model_folder)],
        True,
    )
    from demo_app.model_pool import house

    assert house().holds(str(model_folder))


def test_no_other_folder_of_this_machine_is_looked_for(dialog, tmp_path, monkeypatch):
    save_tiny_chat(tmp_path / "owner" / "name", seed=1)
    (tmp_path / "link").symlink_to(tmp_path / "owner")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    said = set()
    # Whether it is there or not, the same is said.
    for name in (str(tmp_path / "owner/name"), str(tmp_path / "nowhere"), "./owner/name", "~/x", "a.gguf"):
        opened(dialog, "Hugging Face hub", name)
        said.add(dialog.error[0].value.replace("\\", "").replace(name, "NAME"))
    assert len(said) == 1
    for name in ("owner/name", "link/name"):
        opened(dialog, "Hugging Face hub", name)
        assert dialog.error
        assert session_of(dialog).models == []


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("Hugging Face hub", "", "the model's name is empty"),
        ("Hugging Face hub", "no such name", "not a hub id of the form owner/name"),
        ("Hugging Face hub", "<b>/x", "unknown model"),
    ],
)
def test_a_name_that_leads_nowhere_is_said_and_the_model_before_it_stays(
    dialog, model_folder, kind, name, said
):
    opened(dialog, kind, name)
    assert said in dialog.error[0].value.replace("\\", "")
    assert "<b>" not in dialog.error[0].value.replace("\\<b\\>", "")
    assert session_of(dialog).model_name == str(model_folder)


def test_how_far_the_opening_is_stands_above_what_ended_it(dialog, monkeypatch):
    def fetched(name, progress):
        progress("fetching weights", 3, 10)
        raise ModelUnavailableError("The connection was lost. Try again.")

    monkeypatch.setattr("demo_app.model_pool._opened", fetched)
    opened(dialog, "Hugging Face hub", "owner/name")
    (bar,) = dialog.get("progress")
    assert (bar.proto.value, bar.proto.text) == (30, "Fetching weights…")
    assert "connection was lost" in dialog.error[0].value


def test_a_profile_of_another_model_is_refused_in_words_with_a_way_out(demo, tmp_path):
    write_profile(a_profile(), tmp_path / "foreign.json")
    own_policy(demo, tmp_path, "pass", profile="./foreign.json")
    page = asked(AppTest.from_file(APP, default_timeout=60).run())
    (turn,) = session_of(page).turns
    assert turn.answer is None
    assert "profile" in turn.problem
    assert "choose another policy, in the side bar" in turn.problem
