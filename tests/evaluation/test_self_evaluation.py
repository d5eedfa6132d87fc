from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.errors import OptionError
from guardrail.evaluation.samples import ask_asides, draw_samples, information
from guardrail.models.local import LocalModel
from guardrail.models.prompt import encode_prompt
from guardrail.models.sampling import Sampling
from tests.support.chat import tiny_chat_model
from tests.support.similarity import answered, sample


@pytest.fixture(scope="module")
def model():
    return tiny_chat_model()


def test_p_true_is_the_probability_of_true_behind_the_question_the_ideas_and_the_answer(model):
    one = answered("Goethe", sample("Goethe"), sample("Schiller"), question="Who wrote Faust?")
    ((asked),) = ask_asides(model, ["p_true"], [one])
    prompt = (
        "Question: Who wrote Faust?\nHere are some brainstormed ideas:\nGoethe\nSchiller\n"
        "Possible answer: Goethe\nIs the possible answer:\n (A) True\n (B) False\nThe possible answer is:"
    )
    read = model.read(prompt, "True", finish_reason="length")
    assert asked == {"p_true": pytest.approx(exp(sum(read.log_probabilities)), rel=1e-5)}


def test_what_came_before_the_question_stays_before_it(model):
    one = answered("Goethe", sample("Goethe"), question="Who wrote it?")
    told = replace(one, messages=({"role": "system", "content": "Speak of Faust."}, *one.messages))
    assert ask_asides(model, ["p_true"], [one]) != ask_asides(model, ["p_true"], [told])


def test_asides_are_those_asked_for_in_the_order_of_the_answers(model):
    some = [answered("a", sample("a"), sample("b")), answered("c", sample("c"), sample("d"))]
    together = ask_asides(model, ["mutual_information", "p_true"], some)
    alone = [ask_asides(model, ["mutual_information", "p_true"], [one])[0] for one in some]
    assert [list(one) for one in together] == [["mutual_information", "p_true"]] * 2
    for one, other in zip(together, alone, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-9)
    assert ask_asides(model, [], some) == [{}, {}]
    with pytest.raises(OptionError, match="mood"):
        ask_asides(model, ["mood"], some)


def test_samples_that_are_all_one_answer_have_no_mutual_information(model):
    one = answered("a", sample("the red fox"), sample("red fox"), sample("the red fox"))
    assert ask_asides(model, ["mutual_information"], [one]) == [{"mutual_information": 0.0}]


def test_mutual_information_is_that_of_the_likelihoods_behind_each_answer(model):
    first, second, again = sample("red fox", -1.0, -1.0), sample("grey owl", -2.0, -1.0), sample("fox", -4.0)
    one = answered("red fox", first, second, again, question="Who is it?")
    behind = []
    for before in ("red fox", "grey owl"):
        prompt = (
            f"Consider the following question: Q: Who is it?\nOne answer to question Q is {before}\n"
            "Provide an answer to the following question: Q: Who is it?"
        )
        behind.append([sum(model.read(prompt, s.token_ids).log_probabilities) for s in (first, second)])
    masses = np.array([exp(-2) + exp(-4), exp(-3)])
    conditional = np.exp(behind) / np.exp(behind).sum(axis=1, keepdims=True)
    expected = information(masses / masses.sum(), conditional)
    (asked,) = ask_asides(model, ["mutual_information"], [one])
    assert asked["mutual_information"] == pytest.approx(expected, rel=1e-3, abs=1e-9)
    shuffled = replace(one, samples=(second, first, again))
    (turned,) = ask_asides(model, ["mutual_information"], [shuffled])
    assert turned["mutual_information"] == pytest.approx(expected, rel=1e-3, abs=1e-9)


@pytest.mark.parametrize(
    ("first", "conditional", "nats"),
    [
        ([0.5, 0.5], [[1.0, 0.0], [0.0, 1.0]], log(2)),
        ([0.25] * 4, np.eye(4), log(4)),
        ([0.5, 0.5], [[0.3, 0.7], [0.3, 0.7]], 0.0),
        ([1.0, 0.0], [[0.3, 0.7], [1.0, 0.0]], 0.0),
    ],
)
def test_information_of_what_is_repeated_is_its_entropy_and_of_what_is_independent_none(
    first, conditional, nats
):
    assert information(np.array(first), np.array(conditional)) == pytest.approx(nats, abs=1e-12)


@given(
    st.integers(2, 5).flatmap(
        lambda n: st.lists(st.floats(-600, 0), min_size=n * (n + 1), max_size=n * (n + 1))
    )
)
def test_information_lies_between_nothing_and_what_the_first_has(values):
    n = round(((1 + 4 * len(values)) ** 0.5 - 1) / 2)
    first = np.exp(np.array(values[:n]) - max(values[:n]))
    first /= first.sum()
    rows = np.array(values[n:]).reshape(n, n)
    conditional = np.exp(rows - rows.max(axis=1, keepdims=True))
    conditional /= conditional.sum(axis=1, keepdims=True)
    entropy = -sum(p * log(p) for p in first if p > 0)
    assert 0 <= information(first, conditional) <= entropy + 1e-9


@pytest.mark.slow
def test_samples_and_asides_of_real_weights_are_within_their_ranges():
    model = LocalModel.load()
    questions = ["What is the capital of France?", "Name a fuel that people burn to get energy."]
    prompts = [encode_prompt(model.tokenizer, question) for question in questions]
    drawn = draw_samples(model, prompts, Sampling(max_tokens=8, temperature=1.0, seed=1), count=5)
    some = [
        answered(samples[0], *samples, question=question)
        for question, samples in zip(questions, drawn, strict=True)
    ]
    for asides in ask_asides(model, ["p_true", "mutual_information"], some):
        assert 0 < asides["p_true"] < 1
        assert 0 <= asides["mutual_information"] <= log(5)
