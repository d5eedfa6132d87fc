"""Every family, on random weights in float64: scores are those of plain autograd, by the backward named."""

import pytest
import torch

from guardrail.models import generation as running
from guardrail.models.prompt import EncodedPrompt
from guardrail.models.replay import caches as outputs
from guardrail.models.replay import replay as linears
from guardrail.models.replay import replay as recorder
from guardrail.models.sampling import Sampling
from guardrail.scoring import gradients as head
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.score import VERIFIED, is_verified, score, score_batch
from tests.support.agreement import EXACTLY, assert_agrees, reference
from tests.support.tiny import FAMILIES, WINDOW, some_ids, some_prompt, tiny_model

pytestmark = pytest.mark.usefixtures("exact")

# The most used, and one of each other kind; the fast suite has no time for all of them.
FAST = {
    "llama", "llama-tied", "qwen2", "qwen3", "mistral", "phi3", "gemma2", "gemma3", "olmo2", "gpt2",
    "gpt-neox", "smollm3", "mixtral", "cohere", "falcon-alibi", "apertus", "qwen3-next",
}  # fmt: skip
SLOW = (pytest.mark.slow, pytest.mark.untraced)
EVERY_FAMILY = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAST else SLOW) for name in FAMILIES]
)
# Prompt and response are both longer than every window.
LONG, SHORT, RESPONSE = 25, 14, WINDOW + 4


@pytest.fixture
def keeping(request, monkeypatch):
    """Tiny models have tiny weights, which by themselves would only ever go one of two ways."""
    everything = request.param == "everything kept"
    monkeypatch.setattr(linears, "SMALLEST_WEIGHT_BYTES", 0)
    monkeypatch.setattr(outputs, "OUTPUTS_BUDGET_BYTES", 2**28 if everything else 0)
    for module in (running, recorder):
        monkeypatch.setattr(module, "LOGITS_BUDGET_BYTES", 2**28 if everything else 0)
    if not everything:
        # Several pieces of the gradient, of several blocks each, and a last one that is not full.
        monkeypatch.setattr(head, "_GRADIENT_ELEMENTS", 150 * RESPONSE)
        monkeypatch.setattr(head, "_CPU_BLOCK_BYTES", 0)


BOTH_WAYS = pytest.mark.parametrize("keeping", ["everything kept", "nothing kept"], indirect=True)
ONE_WAY = pytest.mark.parametrize("keeping", ["everything kept"], indirect=True)


@BOTH_WAYS
@EVERY_FAMILY
def test_a_generated_response_scores_as_autograd_says(name, keeping):
    model, family = tiny_model(name), FAMILIES[name]
    (trace,) = model.generate_encoded([some_prompt(LONG, seed=1)], Sampling(max_tokens=RESPONSE))
    assert len(trace.response_ids) == RESPONSE
    found = score(model, trace)
    assert (found.computation, found.computation_reason) == (
        ("full", family.reason) if family.reason else ("truncated", "")
    )
    expected = reference(trace)
    assert_agrees(found, expected, within=family.stepwise or EXACTLY)
    assert trace.entropies == pytest.approx(expected.entropies, rel=family.stepwise or 1e-9)
    read = model.read_encoded([EncodedPrompt(trace.prompt_ids, -4)], [trace.response_ids])[0]
    assert_agrees(score(model, read), expected)


@EVERY_FAMILY
def test_a_read_response_scores_alike_wherever_the_semantic_token_is(name):
    model, family = tiny_model(name), FAMILIES[name]
    (trace,) = model.read_encoded([some_prompt(LONG, seed=2)], [some_ids(RESPONSE, seed=3)])
    kept = running.SHORTEST_TAIL
    # What is scored by the full backward is scored by it everywhere.
    positions = (-1, -10) if family.reason else (*range(-1, -11, -1), -LONG)
    for position in positions:
        found = score(model, trace, ScoringOptions(semantic_token=position), release=False)
        reason = family.reason or (family.far_reason if position < -kept else "")
        assert found.computation_reason == reason, position
        assert found.computation == ("full" if reason else "truncated")
        assert_agrees(found, reference(trace, position))


@ONE_WAY
@EVERY_FAMILY
def test_a_batch_scores_each_of_its_responses_as_if_alone(name, keeping):
    model = tiny_model(name)
    prompts = [some_prompt(length, seed=length) for length in (SHORT, LONG, SHORT + 3)]
    responses = [some_ids(length, seed=length) for length in (RESPONSE, 4, 1)]
    traces = model.read_encoded(prompts, responses)
    for trace, found in zip(traces, score_batch(model, traces, release=False), strict=True):
        assert_agrees(found, reference(trace))
    some = [traces[2], traces[0]]
    for trace, found in zip(some, score_batch(model, some), strict=True):
        assert_agrees(found, reference(trace))


@EVERY_FAMILY
def test_responses_generated_in_a_batch_score_as_if_alone(name):
    model, family = tiny_model(name), FAMILIES[name]
    prompts = [some_prompt(SHORT, seed=5), some_prompt(LONG, seed=6)]
    traces = model.generate_encoded(prompts, Sampling(max_tokens=4))
    alone = [model.generate_encoded([prompt], Sampling(max_tokens=4))[0] for prompt in prompts]
    assert [trace.response_ids for trace in traces] == [trace.response_ids for trace in alone]
    for trace, found in zip(traces, score_batch(model, traces), strict=True):
        assert_agrees(found, reference(trace), within=family.stepwise or EXACTLY)


@EVERY_FAMILY
def test_a_response_of_one_token_scores_as_autograd_says(name):
    model = tiny_model(name)
    for position in (-1, -4):
        (trace,) = model.generate_encoded([some_prompt(LONG, 7, position)], Sampling(max_tokens=1))
        assert len(trace.response_ids) == 1
        assert_agrees(score(model, trace), reference(trace))


@EVERY_FAMILY
def test_the_full_backward_gives_the_same(name):
    model = tiny_model(name)
    (trace,) = model.read_encoded([some_prompt(LONG, seed=2)], [some_ids(RESPONSE, seed=3)])
    found = score(model, trace, ScoringOptions(computation="full"))
    assert (found.computation, found.computation_reason) == ("full", "asked for")
    assert_agrees(found, reference(trace))


@EVERY_FAMILY
def test_scoring_again_and_after_release_gives_the_same(name):
    model, family = tiny_model(name), FAMILIES[name]
    (trace,) = model.generate_encoded([some_prompt(LONG, seed=1)], Sampling(max_tokens=RESPONSE))
    first = score(model, trace, release=False)
    assert score(model, trace).scores() == first.scores()
    assert trace.states is None
    assert_agrees(score(model, trace), first, within=family.stepwise or EXACTLY)


def test_families_that_are_trusted_unseen_are_those_tested_here():
    truncated = {family.model_type for family in FAMILIES.values() if not family.reason}
    assert truncated >= VERIFIED
    assert is_verified(tiny_model("llama"))
    assert not is_verified(tiny_model("apertus"))


def test_nothing_is_left_on_a_model_that_was_scored():
    for name in ("llama", "gemma2", "falcon-rotary", "qwen3-next"):
        model = tiny_model(name)
        before = model.anatomy.config._attn_implementation
        # transformers leaves hooks of its own behind where hidden states were asked for.
        hooks = [(dict(m._forward_hooks), dict(m._forward_pre_hooks)) for m in model.model.modules()]
        score(model, model.generate_encoded([some_prompt(9, seed=1)], Sampling(max_tokens=3))[0])
        assert model.anatomy.config._attn_implementation == before
        assert hooks == [(dict(m._forward_hooks), dict(m._forward_pre_hooks)) for m in model.model.modules()]
        for module in model.model.modules():
            assert "forward" not in module.__dict__
        for parameter in model.model.parameters():
            assert parameter.grad is None
            assert not parameter.requires_grad
    assert torch.is_grad_enabled()
