"""Traces that are scored together, in parts, out of order, after release, or from several threads."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from guardrail.errors import OptionError, ScoringError
from guardrail.models.sampling import Sampling
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.score import score, score_batch
from tests.support.agreement import EXACTLY, assert_agrees, reference
from tests.support.tiny import (
    FAMILIES,
    Exact,
    local,
    some_ids,
    some_prompt,
    tiny_config,
    tiny_model,
    tiny_weights,
)

pytestmark = pytest.mark.usefixtures("exact")


@pytest.fixture
def traces():
    model = tiny_model("llama")
    prompts = [some_prompt(length, seed=length) for length in (12, 19, 15)]
    return model.read_encoded(prompts, [some_ids(length, seed=length) for length in (5, 2, 7)])


def test_traces_of_several_runs_come_back_in_the_order_given(traces):
    model = tiny_model("llama")
    others = model.generate_encoded([some_prompt(11, seed=9)], Sampling(max_tokens=3))
    traces[1].release()
    mixed = [traces[2], *others, traces[1], traces[0]]
    for trace, found in zip(mixed, score_batch(model, mixed), strict=True):
        assert_agrees(found, reference(trace))


def test_the_same_trace_may_be_given_twice(traces):
    for found in score_batch(tiny_model("llama"), [traces[0], traces[0]]):
        assert_agrees(found, reference(traces[0]))


def test_nothing_gives_nothing():
    assert score_batch(tiny_model("llama"), []) == []


def test_a_batch_is_let_go_of_with_its_last_trace(traces):
    model, kept = tiny_model("llama"), traces[0].kept.batch
    score(model, traces[0], release=False)
    assert kept.states is not None
    score_batch(model, traces[:2])
    assert [trace.states is None for trace in traces] == [True, True, False]
    assert kept.states is not None
    score(model, traces[2])
    assert kept.states is None


def test_released_traces_of_a_model_that_sees_padding_are_read_one_by_one():
    model = tiny_model("recurrent-gemma")
    prompts = [some_prompt(12, seed=1), some_prompt(19, seed=2)]
    traces = model.read_encoded(prompts, [some_ids(5, seed=3), some_ids(4, seed=4)])
    assert traces[0].states is not traces[1].states
    for trace in traces:
        trace.release()
    for trace, found in zip(traces, score_batch(model, traces), strict=True):
        assert_agrees(found, reference(trace))


def test_a_semantic_token_that_lies_in_the_padding_of_another_is_scored_by_the_full_backward():
    model = tiny_model("llama")
    prompts = [some_prompt(5, seed=1, semantic_token=-1), some_prompt(20, seed=2, semantic_token=-12)]
    traces = model.read_encoded(prompts, [some_ids(5, seed=3), some_ids(4, seed=4)])
    for trace, found in zip(traces, score_batch(model, traces), strict=True):
        assert found.computation_reason == "a prompt of the batch begins after t* of another"
        assert_agrees(found, reference(trace))


def test_a_semantic_token_before_the_prompt_is_refused(traces):
    with pytest.raises(OptionError, match="has only 12 tokens"):
        score(tiny_model("llama"), traces[0], ScoringOptions(semantic_token=-13))


def test_the_trace_of_another_model_is_refused(traces):
    with pytest.raises(OptionError, match="of llama and cannot be scored with qwen2"):
        score(tiny_model("qwen2"), traces[0])


def test_a_score_that_is_not_a_number_is_an_error(traces):
    traces[0].entropies[0] = float("nan")
    with pytest.raises(ScoringError, match="is nan; it is not scored"):
        score(tiny_model("llama"), traces[0])


@pytest.mark.parametrize("name", ["llama", "llama-tied", "gemma2", "lfm2"])
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_the_callers_mode_changes_nothing(name, mode):
    model, tied = tiny_model(name), ScoringOptions(include_tied_embedding=True)
    with mode():
        read = model.read_encoded([some_prompt(13, seed=1)], [some_ids(6, seed=3)])[0]
        made = model.generate_encoded([some_prompt(13, seed=1)], Sampling(max_tokens=4))[0]
        found = score(model, read, release=False)
        with_embedding = score(model, read, tied)
        of_made = score(model, made)
        assert torch.is_grad_enabled() is False
    assert_agrees(found, reference(read))
    assert_agrees(of_made, reference(made))
    assert with_embedding.semgrad == pytest.approx(found.semgrad, rel=EXACTLY)


def test_two_threads_get_the_numbers_that_each_gets_alone():
    model = local(tiny_weights(tiny_config(FAMILIES["gemma3"])), "gemma3")
    prompts = [some_prompt(10 + seed, seed) for seed in range(8)]

    def answer(prompt):
        with Exact():
            trace = model.generate_encoded([prompt], Sampling(max_tokens=5))[0]
            return trace, score(model, trace)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(answer, prompts))
    for trace, found in results:
        assert_agrees(found, reference(trace))


@pytest.mark.parametrize("when", ["generate", "read", "score", "score with the embedding"])
def test_nothing_is_left_on_a_model_after_an_error_in_the_middle(when, monkeypatch):
    model = local(tiny_weights(tiny_config(FAMILIES["llama-tied"])), "llama-tied")
    monkeypatch.setattr("guardrail.models.replay.replay.SMALLEST_WEIGHT_BYTES", 0)
    (trace,) = model.read_encoded([some_prompt(13, seed=1)], [some_ids(6, seed=3)])
    score(model, trace, release=False)

    def breaks(*_):
        raise RuntimeError("in the middle")

    handle = model.anatomy.layers[-1].mlp.register_forward_hook(breaks)
    tied = ScoringOptions(include_tied_embedding=True)
    runs = {
        "generate": lambda: model.generate_encoded([some_prompt(5, 1)], Sampling(3)),
        "read": lambda: model.read_encoded([some_prompt(5, 1)], [[30, 31]]),
        "score": lambda: score(model, trace, release=False),
        "score with the embedding": lambda: score(model, trace, tied, release=False),
    }
    for _ in range(2):
        with pytest.raises(RuntimeError, match="in the middle"):
            runs[when]()
    handle.remove()
    assert model.anatomy.config._attn_implementation == "sdpa"
    for module in model.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert "forward" not in module.__dict__
    assert not any(parameter.requires_grad for parameter in model.model.parameters())
    assert_agrees(score(model, trace), reference(trace))
