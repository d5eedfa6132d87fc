"""A model of a family nobody tried is not trusted before it was tried."""

import pytest
import torch
from transformers import BertConfig, LlamaForCausalLM

from guardrail.errors import ScoringError
from guardrail.models.sampling import Sampling
from guardrail.scoring import score as verification
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.score import score
from tests.support.agreement import assert_agrees, reference
from tests.support.reference import reference_scores
from tests.support.tiny import FAMILIES, local, some_ids, some_prompt, tiny_config, tiny_model, tiny_weights

pytestmark = pytest.mark.usefixtures("exact")


class Reminding(LlamaForCausalLM):
    """Its fifth layer is told what the second was given, behind the back of the layers between."""

    def remind(self):
        second, fifth = self.model.layers[1], self.model.layers[4]
        forward_second, forward_fifth, seen = second.forward, fifth.forward, []

        def note(states, *args, **kwargs):
            seen[:] = [states]
            return forward_second(states, *args, **kwargs)

        def use(states, *args, **kwargs):
            return forward_fifth(states + seen[0], *args, **kwargs)

        second.__class__ = type("Second", (type(second),), {"forward": lambda self, *a, **k: note(*a, **k)})
        fifth.__class__ = type("Fifth", (type(fifth),), {"forward": lambda self, *a, **k: use(*a, **k)})


def broken():
    model = tiny_weights(tiny_config(FAMILIES["llama"]))
    model.__class__ = Reminding
    model.remind()
    return local(model)


def scored(model, **options):
    (trace,) = model.generate_encoded([some_prompt(13, seed=1)], Sampling(max_tokens=6))
    found = score(model, trace, ScoringOptions(**options))
    return found, reference_scores(model.model, trace.prompt_ids, trace.response_ids, semantic_token=-4)


def test_an_architecture_that_the_truncated_backward_gets_wrong_is_scored_by_the_full_one(monkeypatch):
    found, expected = scored(broken())
    assert found.computation == "full"
    assert "the truncated backward" in found.computation_reason
    assert_agrees(found, expected)
    # Without the trial the number would be wrong, and nothing would say so.
    monkeypatch.setattr(verification, "is_verified", lambda model: True)
    found, expected = scored(broken())
    assert found.computation == "truncated"
    assert found.semgrad != pytest.approx(expected.semgrad, rel=0.01)


def test_a_truncated_backward_that_raises_is_not_tried_again(monkeypatch):
    calls = []

    def raises(*_):
        calls.append(1)
        raise TypeError("layer() got an unexpected keyword")

    monkeypatch.setattr(verification, "replay", raises)
    model = local(tiny_weights(tiny_config(FAMILIES["apertus"])))
    for _ in range(2):
        found, expected = scored(model)
        assert found.computation_reason.startswith(
            "the truncated backward does not work for apertus: TypeError"
        )
        assert_agrees(found, expected)
    assert len(calls) == 1


def test_a_model_is_tried_once_and_a_verified_one_never(monkeypatch):
    tried = []
    monkeypatch.setattr(verification, "_try_out", lambda model: tried.append(model.name) or "")
    for name in ("apertus", "llama"):
        model = local(tiny_weights(tiny_config(FAMILIES[name])), name)
        for _ in range(2):
            scored(model)
    assert tried == ["apertus"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_is_no_reason_to_fall_back(dtype):
    model = local(tiny_weights(tiny_config(FAMILIES["apertus"]), dtype=dtype))
    found, _ = scored(model)
    assert found.computation == "truncated"


def test_an_encoder_is_not_scored():
    config = BertConfig(
        hidden_size=24, num_hidden_layers=4, num_attention_heads=4, intermediate_size=40, vocab_size=331
    )
    model = local(tiny_weights(config))
    (trace,) = model.read_encoded([some_prompt(13, seed=1)], [some_ids(6, seed=3)])
    for computation in ("truncated", "full"):
        with pytest.raises(ScoringError, match="does not read from left to right"):
            score(model, trace, ScoringOptions(computation=computation), release=False)


def test_families_without_a_trial_are_all_of_transformers_own_code():
    assert verification.is_verified(tiny_model("llama"))
    assert not verification.is_verified(broken())


def test_a_trial_leaves_the_trace_that_is_being_scored_alone():
    model = tiny_model("gptj")
    model.fallback_reason = None
    (trace,) = model.read_encoded([some_prompt(13, seed=1)], [some_ids(6, seed=3)])
    assert_agrees(score(model, trace), reference(trace))
    assert model.fallback_reason == ""
