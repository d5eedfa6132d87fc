"""Heads that are not an ordinary linear map, and models that change what theirs answered."""

import pytest
import torch
from torch import nn
from transformers import LlamaForCausalLM

from guardrail.models import generation as running
from guardrail.models.sampling import Sampling
from guardrail.scoring import gradients as head
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.score import score
from tests.support.agreement import assert_agrees, reference
from tests.support.reference import reference_scores
from tests.support.tiny import FAMILIES, VOCABULARY, local, some_prompt, tiny_config, tiny_model, tiny_weights

pytestmark = pytest.mark.usefixtures("exact")


class ForeignLinear(nn.Linear):
    """Like that of a quantised model: its weight is not to be multiplied with by anybody else."""


class DoublingLlama(LlamaForCausalLM):
    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = output.logits * 2
        return output


class MaskingLlama(LlamaForCausalLM):
    """Writes into what the head gave, in the same memory."""

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        if not output.logits.requires_grad:
            output.logits.mul_(2)
        return output


def llama(kind=LlamaForCausalLM):
    model = tiny_weights(tiny_config(FAMILIES["llama"]))
    model.__class__ = kind
    return local(model)


def scored(model):
    (trace,) = model.generate_encoded([some_prompt(13, seed=1)], Sampling(max_tokens=6))
    found = score(model, trace)
    at = {"semantic_token": -4}
    return found, reference_scores(model.model, trace.prompt_ids, trace.response_ids, **at)


@pytest.mark.parametrize("bias", [False, True])
def test_a_head_of_another_class_is_differentiated_by_autograd(bias):
    model = llama()
    foreign = ForeignLinear(24, 331, bias=bias).double().requires_grad_(False)
    with torch.no_grad():
        foreign.weight.copy_(model.anatomy.head.weight)
    model.model.lm_head = foreign
    found, expected = scored(local(model.model))
    assert_agrees(found, expected)


def test_logits_that_a_model_changes_are_led_back_through_the_change():
    model = llama(DoublingLlama)
    assert not model.runnable.plain_head
    assert_agrees(*scored(model))


def test_a_change_in_the_same_memory_is_noticed():
    assert llama().runnable.plain_head
    assert not llama(MaskingLlama).runnable.plain_head


@pytest.mark.parametrize("budget", [0, 2**28])
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_blocks_of_the_vocabulary_add_up_wherever_the_tokens_are(monkeypatch, budget, norm):
    monkeypatch.setattr(head, "_GRADIENT_ELEMENTS", 0)
    monkeypatch.setattr(head, "_CPU_BLOCK_BYTES", 0)
    monkeypatch.setattr(running, "LOGITS_BUDGET_BYTES", budget)
    edges = [0, 63, 64, 127, 128, 255, 256, 319, 320, VOCABULARY - 1]
    assert VOCABULARY % 64
    model = tiny_model("llama")
    (trace,) = model.read_encoded([some_prompt(13, seed=1)], [edges])
    assert_agrees(score(model, trace, ScoringOptions(norm=norm)), reference(trace, norm=norm))
