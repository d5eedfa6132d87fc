import pytest
import torch

from guardrail.errors import ScoringError
from guardrail.models.sampling import Sampling
from guardrail.scoring.document_gain import document_gains
from tests.support.chat import tiny_chat_model

pytestmark = pytest.mark.usefixtures("one_thread")

DOCUMENT = "The shop is open from 9 to 5."
QUESTIONS = ("When?", "Until what time is it open?", "Where is it?")


@pytest.fixture(scope="module")
def model():
    return tiny_chat_model()


def encoded(model, *texts):
    return [model.encode_prompt(text) for text in texts]


@torch.no_grad()
def log_likelihood(model, prompt, response):
    ids = torch.tensor([[*prompt.ids, *response]])
    said = torch.log_softmax(model.model(input_ids=ids).logits[0].float(), dim=-1)
    return sum(float(said[len(prompt.ids) + at - 1, token]) for at, token in enumerate(response))


def test_the_gain_is_the_mean_difference_of_the_tokens_log_probabilities(model):
    given = encoded(model, *(f"{DOCUMENT}\n\n{question}" for question in QUESTIONS))
    without = encoded(model, *QUESTIONS)
    traces = model.generate_encoded(given, Sampling(max_tokens=5))
    for trace in traces:
        trace.release()
    gains = document_gains(model, traces, without)
    expected = [
        (log_likelihood(model, one, trace.response_ids) - log_likelihood(model, other, trace.response_ids))
        / len(trace.response_ids)
        for one, other, trace in zip(given, without, traces, strict=True)
    ]
    assert gains == pytest.approx(expected, abs=1e-4)
    alone = [document_gains(model, [trace], [one])[0] for trace, one in zip(traces, without, strict=True)]
    assert gains == pytest.approx(alone, abs=1e-4)
    assert all(abs(gain) > 1e-3 for gain in gains)


def test_a_prompt_that_is_the_same_without_gains_nothing(model):
    (prompt,) = encoded(model, QUESTIONS[0])
    traces = model.read_encoded([prompt], [model.encode_response("At 9.")])
    assert document_gains(model, traces, [prompt]) == pytest.approx([0], abs=1e-5)


def test_what_was_reasoned_before_the_answer_is_read_and_does_not_count(model):
    given, without = encoded(model, f"{DOCUMENT}\n\n{QUESTIONS[0]}", QUESTIONS[0])
    ids = model.encode_response("Hm, at nine. At 9.")
    (trace,) = model.read_encoded([given], [ids])
    (read,) = model.read_encoded([without], [ids])
    trace.answer_start = len(ids) - 4
    gains = [
        one - other
        for one, other in zip(trace.log_probabilities[-4:], read.log_probabilities[-4:], strict=True)
    ]
    assert document_gains(model, [trace], [without]) == pytest.approx([sum(gains) / 4], abs=1e-5)


def test_what_is_no_number_is_no_score(model):
    (prompt,) = encoded(model, QUESTIONS[0])
    (trace,) = model.read_encoded([prompt], [model.encode_response("At 9.")])
    trace.log_probabilities[0] = float("-inf")
    with pytest.raises(ScoringError, match="document_gain is -inf"):
        document_gains(model, [trace], [prompt])
