"""What is kept of keys and values, and when it can be run again."""

import pytest
import torch
from transformers import DynamicCache

from guardrail.models.generation import SHORTEST_TAIL
from guardrail.models.replay.caches import replay_cache, retaining_cache
from guardrail.models.sampling import Sampling
from guardrail.scoring.score import score
from tests.support.agreement import assert_agrees, reference
from tests.support.tiny import WINDOW, some_prompt, tiny_model

pytestmark = pytest.mark.usefixtures("exact")


def kept(name, length, max_tokens=5):
    model = tiny_model(name)
    (trace,) = model.generate_encoded([some_prompt(length, seed=1)], Sampling(max_tokens))
    return trace


def test_a_full_layer_keeps_every_column_and_a_sliding_one_its_window_and_the_tail():
    trace = kept("gemma2", 40)
    columns = trace.states.columns
    assert columns == 44
    found = [layer.keys.shape[-2] for layer in trace.states.cache.layers]
    sliding = WINDOW - 1 + SHORTEST_TAIL + 4
    assert found == [sliding, columns] * 3 + [sliding]


def test_models_without_a_window_have_transformers_own_cache():
    assert retaining_cache(tiny_model("llama").model, 8) is None
    assert type(kept("llama", 12).states.cache) is DynamicCache


@pytest.mark.parametrize("name", ["gemma2", pytest.param("mistral", marks=pytest.mark.slow)])
@pytest.mark.parametrize("length", [2, WINDOW - 1, WINDOW, WINDOW + 1, WINDOW + SHORTEST_TAIL, 40])
@pytest.mark.parametrize("max_tokens", [1, 2, WINDOW + 3])
def test_prompts_and_responses_about_as_long_as_the_window_are_scored_by_the_truncated_backward(
    name, length, max_tokens
):
    model = tiny_model(name)
    (trace,) = model.generate_encoded([some_prompt(length, 1, -min(length, 4))], Sampling(max_tokens))
    found = score(model, trace, release=False)
    assert found.computation == "truncated"
    assert_agrees(found, reference(trace))
    trace.release()
    assert_agrees(score(model, trace), reference(trace))


def test_a_replay_shares_the_memory_of_the_cache():
    states = kept("llama", 12).states
    replayed = replay_cache(states.cache, states.columns, 9)
    for layer, original in zip(replayed.layers, states.cache.layers, strict=True):
        assert layer.keys.data_ptr() == original.keys.data_ptr()
        assert (layer.get_seq_length(), layer.get_mask_sizes(7)) == (9, (16, 0))


def test_columns_beyond_those_wanted_are_not_looked_at():
    """A run may have gone on for longer than the response: the surplus must not shift the rest."""
    for name in ("llama", "gemma2"):
        long, short = kept(name, 20, 9).states, kept(name, 20, 4).states
        for one, other in zip(
            replay_cache(long.cache, short.columns, 16).layers,
            replay_cache(short.cache, short.columns, 16).layers,
            strict=True,
        ):
            torch.testing.assert_close(one.keys, other.keys)
            torch.testing.assert_close(one.values, other.values)


@pytest.mark.parametrize(("name", "start"), [("qwen3-next", 9), ("gemma4", 9), ("gemma2", 0)])
def test_a_cache_that_holds_something_else_or_less_is_not_replayed(name, start):
    states = kept(name, 40).states
    assert replay_cache(states.cache, states.columns, start) is None
    assert replay_cache(None, 10, 5) is None
