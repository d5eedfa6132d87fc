from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guardrail.models import trace as statistics
from guardrail.models.trace import agree, token_statistics

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(2, 70))


def logits(shape, seed, scale=5.0):
    generator = torch.Generator().manual_seed(seed)
    raw = scale * torch.randn(shape, generator=generator, dtype=torch.float64)
    return raw, torch.randint(0, shape[2], shape[:2], generator=generator)


@given(SHAPES, st.integers(0, 1000), st.floats(0, 50))
def test_statistics_are_those_of_the_softmax(shape, seed, scale):
    raw, targets = logits(shape, seed, scale)
    found = token_statistics(iter([raw]), targets)
    p = raw.softmax(-1)
    entropy = torch.special.entr(p).sum(-1)
    torch.testing.assert_close(found.entropies, entropy, rtol=1e-9, atol=1e-9)
    chosen = raw.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    torch.testing.assert_close(found.log_probabilities, chosen, rtol=1e-9, atol=1e-9)


@given(SHAPES, st.integers(0, 1000), st.floats(0, 50))
def test_entropy_is_between_none_and_that_of_a_guess(shape, seed, scale):
    raw, targets = logits(shape, seed, scale)
    found = token_statistics(iter([raw]), targets)
    assert (found.entropies > -1e-9).all()
    assert (found.entropies <= log(shape[2]) + 1e-9).all()
    assert (found.log_probabilities <= 0).all()


@given(SHAPES, st.integers(0, 1000), st.floats(-1e3, 1e3))
def test_a_shift_of_all_logits_changes_nothing_but_the_normalizer(shape, seed, shift):
    raw, targets = logits(shape, seed)
    one, other = token_statistics(iter([raw]), targets), token_statistics(iter([raw + shift]), targets)
    torch.testing.assert_close(other.entropies, one.entropies, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(other.log_probabilities, one.log_probabilities, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(other.log_normalizers, one.log_normalizers + shift)


@given(SHAPES, st.integers(0, 1000), st.integers(1, 5), st.integers(1, 200))
def test_how_logits_are_cut_up_changes_nothing(shape, seed, size, elements):
    raw, targets = logits(shape, seed)
    whole = token_statistics(iter([raw]), targets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "_CPU_CHUNK_ELEMENTS", elements)
        pieces = token_statistics(iter(raw.split(size, dim=1)), targets)
    for found, expected in zip(pieces, whole, strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_statistics_are_at_least_float32(dtype):
    raw, targets = logits((2, 3, 40), 0)
    found = token_statistics(iter([raw.to(dtype)]), targets)
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    assert {column.dtype for column in found} == {wanted}


def test_a_masked_token_has_probability_none():
    raw, _ = logits((1, 2, 40), 0)
    raw[..., 7] = -torch.inf
    left = [at for at in range(40) if at != 7]
    found = token_statistics(iter([raw]), torch.tensor([[3, 4]]))
    p = raw[..., left].softmax(-1)
    torch.testing.assert_close(found.entropies, torch.special.entr(p).sum(-1))
    assert token_statistics(iter([raw]), torch.tensor([[7, 4]])).log_probabilities[0, 0] == -torch.inf


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_logits_give_no_number(value):
    raw, targets = logits((1, 2, 40), 0)
    raw[0, 1, 5] = value
    found = token_statistics(iter([raw]), targets)
    assert found.entropies.isnan().tolist() == [[False, True]]
    assert found.log_probabilities.isfinite().tolist() == [[True, False]]


def test_agreement_is_relative_and_never_with_nan():
    tensor = torch.randn(50)
    assert agree(tensor * (1 + 1e-5), tensor)
    assert not agree(tensor * (1 + 1e-2), tensor)
    assert not agree(tensor.double() * (1 + 1e-5), tensor.double())
    assert agree(tensor.bfloat16() * 1.01, tensor.bfloat16())
    assert not agree(tensor, tensor.clone().fill_(float("nan")))
    assert not agree(tensor.clone().fill_(float("nan")), tensor)
    assert agree(torch.zeros(3), torch.zeros(3))
