"""Segments of a response: each scores as plain autograd says of its own loss within the whole response."""

import pytest
import torch

from guardrail.errors import OptionError, ScoringError
from guardrail.models.replay import replay as linears
from guardrail.models.sampling import Sampling
from guardrail.scoring import segments
from guardrail.scoring.gradients import gradients_at, head_gradients, lay_out, lay_out_segments
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.score import differentiable, score
from guardrail.scoring.segments import Span, score_segments, sentence_spans
from tests.support.agreement import assert_agrees, reference
from tests.support.reference import reference_scores
from tests.support.tiny import (
    FAMILIES,
    WINDOW,
    Family,
    local,
    some_ids,
    some_prompt,
    tiny_config,
    tiny_model,
    tiny_weights,
)

pytestmark = pytest.mark.usefixtures("exact")

PROMPT, RESPONSE = 25, WINDOW + 4
# The second is of one token, the third leaves one out before it, the last overlaps it.
SPANS = [Span(0, 5), Span(5, 6), Span(7, RESPONSE), Span(3, 8)]
# One of each kind: plain, tied, soft-capped, windowed, learned positions, alibi, experts, scaled, several
# streams or recurrent (computed by the full backward), and one that is tried out first.
KINDS = ["llama", "llama-tied", "gemma2", "mistral", "gpt2", "falcon-alibi", "qwen3-moe", "cohere", "gpt-oss"]
KINDS += ["deepseek-v3", "mamba", "qwen3-next", "recurrent-gemma"]


@pytest.fixture(params=["one by one", "together"])
def way(request, monkeypatch):
    monkeypatch.setattr(linears, "SMALLEST_WEIGHT_BYTES", 0)
    monkeypatch.setattr(segments, "_together", lambda _model: 1 if request.param == "one by one" else 3)


def read(name, seed=3):
    model = tiny_model(name)
    return model, model.read_encoded([some_prompt(PROMPT, seed=2)], [some_ids(RESPONSE, seed=seed)])[0]


@pytest.mark.parametrize("name", KINDS)
def test_each_segment_scores_as_autograd_says_of_its_own_loss(name, way):
    model, trace = read(name)
    reason = FAMILIES[name].reason
    for span, found in zip(SPANS, score_segments(model, trace, SPANS), strict=True):
        assert_agrees(found, reference(trace, span=span, reduction="mean"))
        assert (found.computation, found.computation_reason) == ("full" if reason else "truncated", reason)
    assert trace.states is not None


@pytest.mark.parametrize("name", ["llama", "gemma2", "mistral", "mamba"])
def test_segments_of_a_generated_response_in_a_batch_score_as_if_alone(name, way):
    model, within = tiny_model(name), FAMILIES[name].stepwise or 1e-9
    prompts = [some_prompt(14, seed=5), some_prompt(PROMPT, seed=6)]
    for trace in model.generate_encoded(prompts, Sampling(max_tokens=RESPONSE)):
        for span, found in zip(SPANS, score_segments(model, trace, SPANS), strict=True):
            assert_agrees(found, reference(trace, span=span, reduction="mean"), within=within)


@pytest.mark.parametrize("name", ["llama", "gemma2", "mamba"])
def test_the_segment_that_is_the_whole_response_has_its_score(name):
    model, trace = read(name)
    (found,) = score_segments(model, trace, [Span(0, RESPONSE)])
    whole = score(model, trace, ScoringOptions(reduction="mean"))
    assert found.scores() == pytest.approx(whole.scores(), rel=1e-12)
    assert found.tokens == whole.tokens


@pytest.mark.parametrize(
    "options",
    [
        {"reduction": "mean"},
        {"norm": "l2"},
        {"entropy_weight": False},
        {"layers": "all"},
        {"semantic_token": -9},
    ],
    ids=str,
)
def test_every_argument_of_a_score_holds_for_segments(options):
    model, trace = read("llama")
    found = score_segments(model, trace, SPANS, ScoringOptions(**options))
    for span, one in zip(SPANS, found, strict=True):
        assert_agrees(one, reference(trace, span=span, **options))


def test_a_tied_embedding_is_collected_for_each_segment(way):
    model, trace = read("llama-tied")
    found = score_segments(model, trace, SPANS, ScoringOptions(include_tied_embedding=True))
    for span, one in zip(SPANS, found, strict=True):
        assert_agrees(one, reference(trace, span=span, tied=True), names=["semgrad", "paragrad"])


def test_the_full_backward_gives_the_same(way):
    model, trace = read("llama")
    for span, found in zip(
        SPANS, score_segments(model, trace, SPANS, ScoringOptions(computation="full")), strict=True
    ):
        assert (found.computation, found.computation_reason) == ("full", "asked for")
        assert_agrees(found, reference(trace, span=span))


def by_hidden(model, batch, options):
    """Gradients of the parts of a batch by the hidden states of t* (layers × parts × d)."""
    layers = options.layer_indices(len(model.anatomy.layers))
    run = differentiable(model, batch, layers, options).run
    by_final = torch.zeros_like(run.final)
    found = head_gradients(model.anatomy.head, batch.predictions, "l1").by_input
    by_final[batch.row_of, batch.step_of] = found
    return torch.stack(gradients_at(run, by_final, layers, batch.rows, batch.columns))


@pytest.mark.parametrize("name", ["llama", "mistral", "mamba"])
def test_gradients_of_disjoint_segments_add_up_to_those_of_the_whole(name):
    model, trace = read(name)
    options = ScoringOptions()
    spans = [Span(0, 5), Span(5, 6), Span(6, RESPONSE)]
    parts = by_hidden(model, lay_out_segments(trace, spans, options, to_the_end=False), options)
    whole = by_hidden(model, lay_out([trace], options), options)
    torch.testing.assert_close(parts.sum(1, keepdim=True), whole, rtol=1e-9, atol=1e-15)


def test_a_model_that_reads_longer_texts_otherwise_scores_segments_as_part_of_the_whole():
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [3.0] * 4}
    switch = PROMPT + 4
    rope["original_max_position_embeddings"] = switch
    overrides = {"rope_parameters": rope, "original_max_position_embeddings": switch, "hidden_size": 32}
    model = local(tiny_weights(tiny_config(Family("phi3", overrides))))
    (trace,) = model.read_encoded([some_prompt(PROMPT, seed=2)], [some_ids(RESPONSE, seed=3)])
    for span, found in zip(SPANS, score_segments(model, trace, SPANS), strict=True):
        expected = reference_scores(
            model.model, trace.prompt_ids, trace.response_ids, semantic_token=-4, span=span, reduction="mean"
        )
        assert_agrees(found, expected)


def test_a_segment_holds_its_own_tokens_and_their_shares():
    model, trace = read("llama")
    (found,) = score_segments(model, trace, [Span(2, 6)])
    assert [token.id for token in found.tokens] == trace.response_ids[2:6]
    assert [token.weight for token in found.tokens] == pytest.approx([e / 4 for e in trace.entropies[2:6]])
    assert found.max_entropy == max(trace.entropies[2:6])
    assert found.log_likelihood == pytest.approx(sum(trace.log_probabilities[2:6]))
    assert score_segments(model, trace, []) == []


@pytest.mark.parametrize("span", [(0, RESPONSE + 1), (3, 3), (4, 2), (-1, 3)])
def test_a_segment_that_is_not_within_the_response_is_refused_by_its_number(span):
    model, trace = read("llama")
    with pytest.raises(OptionError, match=rf"^Segment 1 is tokens {span[0]} to {span[1]} "):
        score_segments(model, trace, [Span(0, 2), Span(*span)])


def test_a_released_trace_is_refused():
    model, trace = read("llama")
    score(model, trace)
    with pytest.raises(ScoringError, match="released before it was scored"):
        score_segments(model, trace, [Span(0, 2)])


def test_another_models_trace_is_refused():
    _, trace = read("llama")
    with pytest.raises(OptionError, match="is of llama"):
        score_segments(tiny_model("gpt2"), trace, [Span(0, 2)])


def test_sentences_of_a_trace_cover_its_tokens():
    model = tiny_model("llama")
    ids = model.tokenizer("It is so. Is it? Yes.")["input_ids"]
    trace = model.read("Who?", [*ids, 2])
    texts = ["".join(trace.token_texts[slice(*span)]) for span in sentence_spans(trace)]
    assert texts == ["It is so. ", "Is it? ", "Yes.</s>"]
