"""Half precision is near float32, and float16 does not lose gradients as small as 1e-8."""

import pytest
import torch

from guardrail.models.sampling import Sampling
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.score import score
from tests.support.agreement import assert_agrees
from tests.support.reference import reference_scores
from tests.support.tiny import FAMILIES, local, some_ids, some_prompt, tiny_config, tiny_weights

pytestmark = pytest.mark.usefixtures("one_thread")

FAMILY = pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3", "falcon-alibi", "qwen3", "granite"])


def models(name, dtype):
    """The same weights, once in float32 and once in a type that has fewer digits."""
    config = tiny_config(FAMILIES[name])
    coarse = tiny_weights(config, torch.float32).to(dtype)
    for layer in local(coarse).anatomy.layers:
        for parameter in layer.parameters():
            # Large random weights make rounding grow from layer to layer, which trained ones do not.
            parameter.mul_(0.4 if parameter.ndim > 1 else 1)
    fine = tiny_weights(config, torch.float32)
    fine.load_state_dict({key: value.float() for key, value in coarse.state_dict().items()})
    return local(fine), local(coarse)


def read(model):
    return model.read_encoded([some_prompt(25, seed=1)], [some_ids(12, seed=2)])[0]


@FAMILY
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("computation", ["truncated", "full"])
def test_half_precision_is_within_a_few_percent_of_float32(name, dtype, computation):
    fine, coarse = models(name, dtype)
    expected = score(fine, read(fine))
    found = score(coarse, read(coarse), ScoringOptions(computation=computation))
    assert found.computation == computation
    for part in ("hybridgrad", "semgrad", "paragrad", "exgrad", "mean_entropy", "log_likelihood"):
        assert getattr(found, part) == pytest.approx(getattr(expected, part), rel=0.05), part


@FAMILY
def test_bfloat16_is_what_autograd_gives_in_bfloat16(name):
    _, coarse = models(name, torch.bfloat16)
    trace, path = read(coarse), FAMILIES[name].layers_path
    found = score(coarse, trace)
    expected = reference_scores(
        coarse.model, trace.prompt_ids, trace.response_ids, semantic_token=-4, layers_path=path
    )
    assert_agrees(found, expected, within=0.02)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_generates_and_scores(dtype):
    _, model = models("llama", dtype)
    (trace,) = model.generate_encoded([some_prompt(25, seed=1)], Sampling(max_tokens=6))
    found = score(model, trace, release=False)
    assert found.semgrad > 0
    trace.release()
    assert score(model, trace).hybridgrad == pytest.approx(found.hybridgrad, rel=0.08)


def test_float16_keeps_gradients_that_it_could_not_hold():
    fine, coarse = models("llama", torch.float16)
    for model in (fine, coarse):
        # Logits so far apart that the model is all but certain, and gradients are tiny.
        model.model.lm_head.weight.mul_(16)
    traces = [
        model.generate_encoded([some_prompt(25, seed=1)], Sampling(max_tokens=3))[0]
        for model in (fine, coarse)
    ]
    averaged = ScoringOptions(reduction="mean")
    found = [score(model, trace, averaged) for model, trace in zip((fine, coarse), traces, strict=True)]
    assert found[0].paragrad < 1e-5
    assert found[1].paragrad == pytest.approx(found[0].paragrad, rel=0.3)
    assert found[1].semgrad == pytest.approx(found[0].semgrad, rel=0.3)
