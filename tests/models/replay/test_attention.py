"""Attention of a replay: PyTorch's own numbers and gradients, and nothing computed that is known already."""

import pytest
import torch
from torch import nn

from guardrail.models.replay import attention
from guardrail.models.replay.attention import attending_from_suffix, suffix_attention
from guardrail.models.sampling import Sampling
from guardrail.scoring.score import score
from tests.support.tiny import LAYERS, some_prompt, tiny_model

BATCH, HEADS, GROUPS, COLUMNS, OWN = 2, 6, 2, 11, 4


@pytest.fixture
def inputs():
    torch.manual_seed(0)
    # Values of another size than keys, as in latent attention; the second row is padded by three columns.
    sizes = (HEADS, OWN, 8), (GROUPS, COLUMNS, 8), (GROUPS, COLUMNS, 5)
    states = [torch.randn(BATCH, *size, dtype=torch.float64, requires_grad=True) for size in sizes]
    mask = torch.ones(BATCH, 1, OWN, COLUMNS, dtype=torch.bool).tril(COLUMNS - OWN)
    mask[1, :, :, :3] = False
    return *states, mask


@pytest.fixture
def counted(monkeypatch):
    """How often the weights of attention are computed."""
    weights, calls = attention._weights, []
    monkeypatch.setattr(attention, "_weights", lambda *given: calls.append(given) or weights(*given))
    return calls


def attended(inputs, known=None):
    module, model = nn.Module(), tiny_model("llama")
    with attending_from_suffix(model.model, model.anatomy.config, {} if known is None else {module: known}):
        return suffix_attention(module, *inputs)[0]


def by_pytorch(query, key, value, mask):
    output = nn.functional.scaled_dot_product_attention(query, key, value, mask, enable_gqa=True)
    return output.transpose(1, 2)


def suffix_gradients(output, inputs):
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape)
    gradients = torch.autograd.grad((output * weights).sum(), inputs[:3])
    return [gradient[..., -OWN:, :] for gradient in gradients]


def test_output_and_gradients_of_the_suffix_are_those_of_pytorch(inputs):
    found, expected = attended(inputs), by_pytorch(*inputs)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(suffix_gradients(found, inputs), suffix_gradients(expected, inputs))


def test_what_is_known_is_not_computed_and_has_the_same_gradients(inputs, counted):
    expected = by_pytorch(*inputs)
    found = attended(inputs, expected.detach())
    assert not counted
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(suffix_gradients(found, inputs), suffix_gradients(expected, inputs))


def test_what_is_known_of_other_columns_is_not_taken(inputs):
    torch.testing.assert_close(attended(inputs, torch.zeros(BATCH, OWN + 1, HEADS, 5)), by_pytorch(*inputs))


def test_a_score_computes_the_weights_of_the_upper_half_once_and_backwards_only(counted):
    model = tiny_model("llama")
    (trace,) = model.generate_encoded([some_prompt(25, seed=1)], Sampling(max_tokens=6))
    assert not counted
    score(model, trace)
    assert len(counted) == LAYERS // 2
