"""LongRoPE turns every position by other angles once a text is longer than the model was first trained on."""

import pytest

from guardrail.models.sampling import Sampling
from guardrail.scoring.score import score, score_batch
from tests.support.agreement import assert_agrees
from tests.support.reference import reference_scores
from tests.support.tiny import Family, local, some_ids, some_prompt, tiny_config, tiny_weights

pytestmark = pytest.mark.usefixtures("exact")

SWITCH = 20


@pytest.fixture(scope="module", params=["phi3", "llama"])
def model(request):
    rope = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "short_factor": [1.0] * 4,
        "long_factor": [3.0] * 4,
        "original_max_position_embeddings": SWITCH,
    }
    family = Family(
        request.param,
        {"rope_parameters": rope, "original_max_position_embeddings": SWITCH, "hidden_size": 32},
    )
    return local(tiny_weights(tiny_config(family)))


def expected(model, trace):
    return reference_scores(model.model, trace.prompt_ids, trace.response_ids, semantic_token=-4)


def test_the_switch_is_known(model):
    assert model.anatomy.rope_switch == SWITCH


@pytest.mark.parametrize("length", [9, SWITCH - 3, SWITCH - 1, SWITCH, SWITCH + 1, SWITCH + 9])
def test_a_response_that_grows_over_the_switch_scores_as_autograd_says(model, length):
    (trace,) = model.generate_encoded([some_prompt(length, seed=1)], Sampling(max_tokens=8))
    assert len(trace.response_ids) == 8
    found = score(model, trace, release=False)
    assert_agrees(found, expected(model, trace))
    assert trace.log_probabilities == pytest.approx(expected(model, trace).log_probabilities, rel=1e-9)
    assert trace.finish_reason == "length"
    trace.release()
    assert_agrees(score(model, trace), expected(model, trace))


def test_a_batch_on_both_sides_of_the_switch_scores_as_if_alone(model):
    prompts = [some_prompt(9, seed=1), some_prompt(SWITCH - 2, seed=2), some_prompt(SWITCH + 5, seed=3)]
    read = model.read_encoded(prompts, [some_ids(7, seed=4)] * 3)
    made = model.generate_encoded(prompts, Sampling(max_tokens=7))
    for trace, found in [
        *zip(read, score_batch(model, read), strict=True),
        *zip(made, score_batch(model, made), strict=True),
    ]:
        assert_agrees(found, expected(model, trace))
