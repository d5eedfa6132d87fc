"""A policy that is typed into the page may change the rules, but not where answers go, or what code runs."""

import pytest
from streamlit.testing.v1 import AppTest

from demo_app.settings import environment, only_known_places
from guardrail.policy.load import check_text

ESCALATES = """version: 1
name: typed
rules:
  - {id: all, action: escalate, to: there}
escalation:
  there: TARGET
"""
LOGS = """version: 1
name: typed
rules:
  - {id: all, action: pass}
log: LOG
"""
STARTED = """version: 1
name: started
rules:
  - {id: all, action: escalate, to: strong}
escalation:
  strong: {chat_model: "openai:small", arguments: {base_url: "http://127.0.0.1:9/v1"}}
log: {file: decisions.jsonl, text: hash}
"""


def _policy_page():
    from demo_app.views.policy import page

    page()


def typed(text, folder):
    checked = check_text(text, "policy.yaml", folder, environment())
    assert checked.policy is not None, checked.mistakes
    return only_known_places(checked, text, "policy.yaml")


def assert_refused(checked, place, what):
    (mistake,) = checked.mistakes
    assert checked.policy is None
    assert str(mistake) == (
        f"policy.yaml:{place}: a policy typed into the page cannot name a new {what}: start the demo with "
        "--policy FILE"
    )


def test_the_page_refuses_it_before_it_can_be_used(demo):
    app = AppTest.from_function(_policy_page, default_timeout=30).run()
    app.text_area[0].set_value(ESCALATES.replace("TARGET", '{callable: "os:system"}')).run()
    assert not app.exception
    assert "line 6, column 3" in app.text[0].value
    assert "cannot name a new function: start the demo with --policy FILE" in app.text[0].value
    assert next(one for one in app.button if one.label == "Apply to chat").disabled


@pytest.fixture
def started(demo, tmp_path):
    """The demo, started with a policy of its own."""
    (tmp_path / "started.yaml").write_text(STARTED)
    demo.setenv("GUARDRAIL_DEMO_POLICY", str(tmp_path / "started.yaml"))
    return demo


@pytest.mark.parametrize(
    ("target", "what"),
    [
        ('{callable: "os:system"}', "function"),
        ('{queue: "sqlite:////tmp/other.db"}', "queue"),
        ('{queue: "sqlite:///${GUARDRAIL_DEMO_DATA}/other.db"}', "queue"),
        ('{chat_model: "openai:large"}', "chat model"),
        # The one that a ready policy names, at another address.
        ('{chat_model: "openai:gpt-5", arguments: {base_url: "http://example.org"}}', "chat model"),
    ],
)
def test_a_new_place_for_answers_is_refused_at_its_line(demo, tmp_path, target, what):
    assert_refused(typed(ESCALATES.replace("TARGET", target), tmp_path), "6:3 escalation.there", what)


def test_the_chat_model_that_the_demo_began_with_is_refused_at_another_address(started, tmp_path):
    other = STARTED.replace("http://127.0.0.1:9/v1", "http://example.org")
    assert_refused(typed(other, tmp_path), "6:3 escalation.strong", "chat model")


@pytest.mark.parametrize("log", ["{file: other.jsonl}", "{file: decisions.jsonl, text: full}"])
def test_another_log_is_refused_at_its_line(started, tmp_path, log):
    assert_refused(typed(LOGS.replace("LOG", log), tmp_path), "5:1 log", "log")


def test_what_comes_through_extends_is_refused_where_that_stands(demo, tmp_path):
    (tmp_path / "base.yaml").write_text(ESCALATES.replace("TARGET", '{callable: "os:system"}'))
    assert_refused(
        typed("version: 1\nname: typed\nextends: base.yaml\n", tmp_path), "3:1 extends", "function"
    )


@pytest.mark.parametrize(
    "text",
    [
        STARTED.replace("action: escalate, to: strong", "action: pass"),
        "version: 1\nname: typed\nextends: builtin:human-review\n",
        ESCALATES.replace("TARGET", '{queue: "${GUARDRAIL_QUEUE}", timeout_s: 5}'),
        ESCALATES.replace("TARGET", '{chat_model: "openai:gpt-5"}'),
    ],
    ids=["of-the-start", "extends", "variable", "of-a-ready-policy"],
)
def test_places_that_are_known_may_be_used(started, tmp_path, text):
    assert typed(text, tmp_path).mistakes == ()
