import time

import pytest
from streamlit.testing.v1 import AppTest

from demo_app import app as demo_page
from guardrail.policy.load import load_policy
from tests.support.guards import guard_of

APP = demo_page.__file__
QUESTION = "Who wrote Faust?"
LET_THROUGH = """version: 1
name: own
rules:
  - {id: all, action: ACTION}
"""


@pytest.fixture
def page(demo):
    return AppTest.from_file(APP, default_timeout=60).run()


def own_policy(demo, folder, action, **more):
    path = folder / "own.yaml"
    extra = "".join(f"{name}: {value}\n" for name, value in more.items())
    path.write_text(LET_THROUGH.replace("ACTION", action) + extra)
    demo.setenv("GUARDRAIL_DEMO_POLICY", str(path))
    return path


def html(page):
    return "\n".join(element.proto.body for element in page.get("html"))


def answered(page, seconds=60):
    until = time.monotonic() + seconds
    while page.session_state["guardrail"].asking is not None:
        assert time.monotonic() < until
        page.run()
    assert not page.exception
    return page


def asked(page, question=QUESTION):
    return answered(page.chat_input[0].set_value(question).run())


def test_a_newcomer_is_told_what_the_four_badges_mean_and_given_questions(page):
    assert not page.exception
    shown = html(page)
    assert all(word in shown for word in ("Passed", "Flagged", "Withheld", "Sent for review"))
    assert len([button for button in page.button if (button.key or "").startswith("example-")]) == 6


@pytest.mark.parametrize(
    ("action", "word"),
    [
        pytest.param("pass", "Passed", marks=pytest.mark.slow),
        pytest.param("flag", "Flagged", marks=pytest.mark.slow),
        ("abstain", "Withheld"),
    ],
)
def test_an_answer_has_its_badge_and_its_reasons(demo, tmp_path, action, word):
    own_policy(demo, tmp_path, action)
    page = asked(AppTest.from_file(APP, default_timeout=60).run())
    (answer,) = page.session_state["guardrail"].answers
    shown = html(page)
    assert answer.action == action
    assert f'data-action="{action}"' in shown
    assert word in shown
    assert "HybridGrad" in shown
    assert f"{answer.uncertainty.hybridgrad:.3g}" in shown


@pytest.mark.slow
def test_an_example_is_one_click_away(page):
    answered(page.button(key="example-What is 17 times 24?").click().run())
    assert [turn.question for turn in page.session_state["guardrail"].turns] == ["What is 17 times 24?"]


@pytest.mark.slow
def test_a_withheld_draft_is_nowhere_on_the_page_until_it_is_asked_for(demo, tmp_path):
    own_policy(demo, tmp_path, "abstain")
    page = asked(AppTest.from_file(APP, default_timeout=60).run())
    (answer,) = page.session_state["guardrail"].answers
    longest = max(answer.draft.split(), key=len)
    assert longest not in html(page)
    assert "data-tip=" not in html(page)
    page.button(key=f"reveal-{answer.request}").click().run()
    assert "not approved by the policy" in html(page)
    assert "data-tip=" in html(page)
    page.button(key=f"reveal-{answer.request}").click().run()
    assert "data-tip=" not in html(page)


@pytest.mark.slow
def test_what_was_withheld_is_not_part_of_the_next_prompt(demo, tmp_path):
    from demo_app.session import history

    own_policy(demo, tmp_path, "abstain")
    page = asked(asked(AppTest.from_file(APP, default_timeout=60).run()))
    turns = page.session_state["guardrail"].turns
    said = history(turns)
    assert said[1]["content"] == turns[0].answer.text != turns[0].answer.draft
    first, second = (turn.answer for turn in turns)
    assert (second.turns_left_out, second.usage) == (1, first.usage)
    assert "asked without 1 earlier turn that had been withheld" in html(page)


def test_ten_turns_go_on_without_those_that_were_withheld(one_thread):
    from demo_app.session import ChatTurn, history

    hard = {"id": "hard", "when": {"tags": ["hard"]}, "action": "abstain"}
    guard = guard_of(hard, {"id": "doubt", "action": "flag", "message": "Look it up."})
    turns = []
    for number in range(10):
        asked_now = {"role": "user", "content": QUESTION}
        tags = ["hard"] if number % 2 else []
        answer = guard.judge([*history(turns), asked_now], f"Goethe {number}.", tags=tags)
        assert answer.turns_left_out == number // 2
        turns.append(ChatTurn(QUESTION, answer, is_first=number == 0))
    shown = [turn for turn in turns if turn.answer.action == "flag"]
    asked_now = {"role": "user", "content": QUESTION}
    last = guard.judge([*history(turns), asked_now], "Goethe.")
    alone = guard.judge([*history(shown), asked_now], "Goethe.")
    assert (last.turns_left_out, alone.turns_left_out, len(shown)) == (5, 0, 5)
    assert last.usage == alone.usage


@pytest.mark.slow
def test_a_conversation_goes_on_and_a_new_chat_forgets_it(page):
    asked(asked(page), "And when?")
    session = page.session_state["guardrail"]
    assert [turn.is_first for turn in session.turns] == [True, False]
    next(button for button in page.button if button.label == "New chat").click().run()
    assert session.turns == []


def test_what_is_said_stays_text(demo, tmp_path):
    own_policy(demo, tmp_path, "pass")
    question = "<script>alert(1)</script> ![x](https://example.org/x.png)"
    page = asked(AppTest.from_file(APP, default_timeout=60).run(), question)
    (own,) = (element.proto.body for element in page.get("html") if element.proto.unsafe_allow_javascript)
    assert "alert" not in own
    shown = html(page).replace(own, "")
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown
    assert not any("example.org" in element.value for element in page.markdown)


def test_a_policy_that_escalates_puts_the_question_into_its_queue(demo, tmp_path):
    from guardrail import HumanQueue

    demo.setenv("GUARDRAIL_DEMO_POLICY", "builtin:human-review")
    page = asked(AppTest.from_file(APP, default_timeout=60).run())
    (answer,) = page.session_state["guardrail"].answers
    url = load_policy("builtin:human-review").escalation["human"].queue
    assert HumanQueue(url).get(answer.escalation.ticket).case.messages[-1]["content"] == QUESTION
    assert "Sent for review" in html(page)


@pytest.mark.slow
def test_stop_gives_an_answer_up(page, demo):
    page.chat_input[0].set_value("Tell me everything. " * 10).run()
    session = page.session_state["guardrail"]
    stop = [button for button in page.button if button.key == "stop"]
    if stop:
        stop[0].click().run()
        answered(page)
        assert session.turns[0].answer is None or session.turns[0].problem == ""
    assert session.asking is None or session.asking.wait(60)


def test_a_question_that_cannot_be_asked_is_answered_by_a_sentence(page):
    asked(page, "word " * 700)
    (turn,) = page.session_state["guardrail"].turns
    assert "new chat" in turn.problem
    assert page.warning


def test_a_model_that_is_not_there_is_told_in_words(demo):
    demo.setenv("GUARDRAIL_DEMO_MODEL", "./nowhere")
    page = asked(AppTest.from_file(APP, default_timeout=60).run())
    (turn,) = page.session_state["guardrail"].turns
    assert "nowhere" in turn.problem


@pytest.mark.slow
def test_two_visitors_share_the_model_and_nothing_else(page):
    other = AppTest.from_file(APP, default_timeout=60).run()
    asked(page)
    asked(other, "And who are you?")
    one, two = (each.session_state["guardrail"] for each in (page, other))
    assert [turn.question for turn in one.turns] == [QUESTION]
    assert [turn.question for turn in two.turns] == ["And who are you?"]
    from demo_app.model_pool import house

    assert house().model(one.model_name) is house().model(two.model_name)


def test_the_sidebar_counts_and_changes_the_policy(page):
    page.sidebar.selectbox[0].set_value("builtin:strict").run()
    assert page.session_state["guardrail"].policy.name == "strict"
    assert not page.exception
