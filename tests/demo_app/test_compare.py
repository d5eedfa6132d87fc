import time

import pytest
from streamlit.testing.v1 import AppTest


def shown():
    from demo_app.views import compare

    compare.page()


@pytest.fixture
def page(demo):
    return AppTest.from_function(shown, default_timeout=60).run()


def html(page):
    return "\n".join(element.proto.body for element in page.get("html"))


def asked(page, question="What is 17 times 24?"):
    page.selectbox[0].set_value(question)
    page.button[0].click().run()
    until = time.monotonic() + 60
    while any(one.stage != "done" for one in page.session_state["guardrail"].compared):
        assert time.monotonic() < until
        page.run()
    return page.run()


def test_one_question_is_answered_under_both_policies(page):
    page.selectbox(key="compare-policy-Left").set_value("observe-only")
    page.selectbox(key="compare-policy-Right").set_value("strict")
    page = asked(page)
    assert not page.exception
    left, right = page.session_state["guardrail"].compared
    assert (left.policy.name, right.policy.name) == ("observe-only", "strict")
    assert not left.answer.enforced
    assert right.answer.action == "abstain"
    assert "Would have been" in html(page)
    assert html(page).count("data-action=") == 2


def test_what_is_compared_is_not_part_of_the_chat(page):
    assert asked(page).session_state["guardrail"].turns == []


def test_nothing_is_asked_without_a_question(page):
    page.button[0].click().run()
    assert page.session_state["guardrail"].compared is None
    assert "question" in page.info[0].value
