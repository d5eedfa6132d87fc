"""Laws of the numbers that need no model."""

from math import exp, inf, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.score import score
from guardrail.scoring.uncertainty import combine, token_weights
from tests.support.tiny import some_ids, some_prompt, tiny_model

SIZES = st.floats(0, 1e3)
ENTROPIES = st.floats(0, log(300_000))


@given(SIZES, SIZES, ENTROPIES)
def test_hybridgrad_lies_between_its_parts(semgrad, paragrad, entropy):
    low, high = sorted((semgrad, paragrad))
    assert low * (1 - 1e-12) <= combine(semgrad, paragrad, entropy) <= high * (1 + 1e-12)


@given(SIZES, SIZES)
def test_a_certain_model_is_judged_by_paragrad_and_one_that_guesses_by_semgrad(semgrad, paragrad):
    assert combine(semgrad, paragrad, 0.0) == paragrad
    assert combine(semgrad, paragrad, inf) == semgrad


@given(SIZES, SIZES, ENTROPIES, st.floats(1e-6, 1e6))
def test_hybridgrad_scales_with_the_loss(semgrad, paragrad, entropy, factor):
    scaled = combine(factor * semgrad, factor * paragrad, entropy)
    assert scaled == pytest.approx(factor * combine(semgrad, paragrad, entropy))


@given(st.lists(ENTROPIES, min_size=1, max_size=30))
def test_weights_are_shares_of_the_entropies(entropies):
    total = token_weights(entropies, ScoringOptions())
    mean = token_weights(entropies, ScoringOptions(reduction="mean"))
    assert total == entropies
    assert sum(mean) == pytest.approx(sum(entropies) / len(entropies))
    assert token_weights(entropies, ScoringOptions(entropy_weight=False)) == [1.0] * len(entropies)


def test_the_likelihoods_are_those_of_the_tokens(exact):
    model = tiny_model("llama")
    (trace,) = model.read_encoded([some_prompt(13, seed=1)], [some_ids(6, seed=3)])
    found = score(model, trace)
    assert found.log_likelihood == pytest.approx(sum(trace.log_probabilities))
    assert found.perplexity == pytest.approx(exp(-found.log_likelihood / 6))
    assert found.min_token_probability == pytest.approx(exp(min(trace.log_probabilities)))
    assert found.mean_entropy == pytest.approx(sum(trace.entropies) / 6)
    assert (found.max_entropy, found.sum_entropy) == (max(trace.entropies), sum(trace.entropies))
    assert [token.id for token in found.tokens] == trace.response_ids
    assert [token.text for token in found.tokens] == trace.token_texts
    assert [token.log_probability for token in found.tokens] == trace.log_probabilities
    assert found.semantic_token.position == -4
    assert found.semantic_token.text == model.tokenizer.decode([trace.prompt_ids[-4]])
