"""The guard over the weights that come with the package."""

import asyncio

import pytest

from guardrail.guard import Guard
from guardrail.models.sampling import Sampling
from tests.support.guards import policy_of

EASY = "What is the capital of France?"
HARD = "What was the middle name of the second mayor of Kazan?"
SHORT = Sampling(max_tokens=24)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def guard():
    policy = policy_of(
        {"id": "calm", "when": {"uncertainty": {"mean_entropy": {"lt": 1.2}}}, "action": "pass"},
        {"id": "rest", "action": "abstain", "message": "I do not know."},
    )
    return Guard.from_policy(policy, "smollm2-135m")


def test_an_easy_question_is_answered_and_a_hard_one_is_not(guard):
    easy, hard = guard.ask_batch([EASY, HARD], SHORT)
    assert (easy.action, hard.action) == ("pass", "abstain")
    assert "Paris" in easy.text
    assert (hard.text, hard.error) == ("I do not know.", "")


def test_an_answer_judged_is_decided_on_like_one_generated(guard):
    asked = guard.ask(EASY, SHORT)
    judged = asyncio.run(guard.ajudge(EASY, asked.text, finish_reason="stop"))
    assert (judged.action, judged.text) == (asked.action, asked.text)
    assert judged.uncertainty.hybridgrad == pytest.approx(asked.uncertainty.hybridgrad, rel=1e-3)


def test_after_a_refusal_the_model_answers_as_if_it_was_never_given(guard):
    refusal = "I am not sure enough to answer that."
    whole, talk = [], Guard.from_policy("builtin:default", guard.model)
    for number in range(10):
        place = ("France", "Japan", "Italy", "Spain", "Egypt")[number // 2]
        question = HARD if number % 2 else f"What is the capital of {place}?"
        whole.append({"role": "user", "content": question})
        if number % 4 == 0:
            # Nothing but refusals came before.
            answer, alone = talk.ask(whole, SHORT), talk.ask(question, SHORT)
            assert (answer.draft, answer.usage) == (alone.draft, alone.usage)
            assert answer.turns_left_out == number
        whole.append({"role": "assistant", "content": refusal})
    repeated = talk.judge(EASY, refusal)
    assert (repeated.action, repeated.rule, repeated.text) == ("abstain", "own_message", refusal)


def test_the_default_policy_guards_the_default_model():
    answer = Guard.from_policy("builtin:default").ask(EASY, SHORT)
    assert answer.action in ("pass", "flag", "abstain")
    assert answer.error == ""
