"""The policy page: what is typed is checked at its line, and tried on known answers, before it is used."""

import pytest
from streamlit.testing.v1 import AppTest

from demo_app import policy_draft as known
from guardrail.calibration.held_out import builtin_profile
from guardrail.policy import dry_run
from guardrail.policy.decide import decide
from guardrail.policy.yaml_document import builtin_policies


def _policy_page():
    from demo_app.views.policy import page

    page()


@pytest.fixture
def app(demo):
    # Its profile ships; the page opens no model.
    demo.setenv("GUARDRAIL_DEMO_MODEL", "smollm2-135m")
    app = AppTest.from_function(_policy_page, default_timeout=30).run()
    assert not app.exception
    return app


def _button(app, label):
    return next(button for button in app.button if button.label == label)


def _table(app):
    """The row of each name: before and after."""
    text = next(one.value for one in app.markdown if "| Passed" in one.value)
    rows = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in text.split("\n")]
    return {name: (before, after) for name, before, after in rows}


def test_a_mistake_is_shown_with_its_line_and_the_chat_keeps_its_policy(app):
    text = app.text_area[0].value
    app.text_area[0].set_value(text.replace("confidence: {gte: 0.5}", "confidnce: {gte: 0.5}")).run()
    line = text.split("\n").index("    when: {confidence: {gte: 0.5}}") + 1
    assert f"line {line}, column 12" in app.text[0].value
    assert "did you mean 'confidence'" in app.text[0].value
    assert "    when: {confidnce: {gte: 0.5}}\n" in app.text[0].value
    assert "1 error" in app.error[0].value
    assert _button(app, "Apply to chat").disabled
    assert app.session_state["guardrail"].policy.name == "default"


def test_whatever_is_typed_is_answered_in_words(app):
    for text in ("", "{", "rules: [", "\t", "version: 1", "<script>alert(1)</script>", "# ünï"):
        app.text_area[0].set_value(text).run()
        assert not app.exception
        assert app.error[0].value
        assert "line 1" in app.text[0].value


def test_a_slider_writes_its_threshold_into_the_text_and_the_counts_follow_at_once(app):
    before = _table(app)["Passed"]
    assert before[0] == before[1]
    slider = next(one for one in app.slider if "confident" in one.label)
    slider.set_value(0.6).run()
    assert "when: {confidence: {gte: 0.6}}" in app.text_area[0].value
    assert app.text_area[0].value.startswith("# yaml-language-server")
    passed, flagged = _table(app)["Passed"], _table(app)["Flagged"]
    assert passed[0] == before[0]
    assert int(passed[1]) > int(passed[0]) + 20
    assert int(passed[1]) + int(flagged[1]) == int(passed[0]) + int(flagged[0])


def test_a_policy_that_is_used_decides_in_the_chat_from_then_on(app):
    app.selectbox[0].set_value("strict").run()
    assert app.session_state["guardrail"].policy.name == "default"
    shown = _table(app)["Shown"]
    assert shown[0] != shown[1] == "0\N{NO-BREAK SPACE}%"
    _button(app, "Apply to chat").click().run()
    assert app.session_state["guardrail"].policy.name == "strict"
    assert _table(app)["Shown"] == ("0\N{NO-BREAK SPACE}%", "0\N{NO-BREAK SPACE}%")
    assert _button(app, "Active in the chat").disabled


def test_every_ready_policy_is_shown_without_a_mistake(app):
    for name in builtin_policies():
        app.selectbox[0].set_value(name).run()
        assert not app.exception
        assert not app.error
        assert _table(app)["Shown"]


def test_answers_of_the_chat_are_tried_too(app):
    from demo_app.session import ChatTurn
    from guardrail.policy.load import load_policy
    from tests.support.guards import ASKED, SAID, guard_of

    answer = guard_of({"id": "show", "action": "flag"}).judge(ASKED, SAID)
    session = app.session_state["guardrail"]
    session.turns.append(ChatTurn("What is <b>1|2</b>?", answer, policy=load_policy("builtin:default")))
    app.selectbox[0].set_value("strict").run()
    assert "1 of 1 answer would change." in [one.value for one in app.caption]
    changed = next(one.value for one in app.markdown if "By rule" in one.value)
    assert "What is \\<b\\>1\\|2\\</b\\>?" in changed
    assert "| Flagged | **Withheld** |" in changed


def test_without_held_out_answers_the_page_says_what_is_not_known(demo):
    app = AppTest.from_function(_policy_page, default_timeout=30).run()
    assert not app.exception
    assert any("The error rate is unknown" in one.value for one in app.info)


def test_a_slider_has_every_known_answer_decided_once_and_reads_none_again(app, monkeypatch):
    # How long that takes is measured in a browser (browser/speed.py): here it would be the time of a tracer.
    answers, decided = len(known.known(builtin_profile("smollm2-135m")).answers), []
    monkeypatch.setattr(dry_run, "decide", lambda *given: decided.append(given) or decide(*given))
    monkeypatch.setattr(known, "read_held_out", lambda *_: pytest.fail("The answers were read again."))
    for bound, times in ((0.6, 1), (0.61, 2), (0.6, 2)):
        next(one for one in app.slider if "confident" in one.label).set_value(bound).run()
        assert not app.exception
        assert len(decided) == times * answers > 0
