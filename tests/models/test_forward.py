"""The likelihoods of responses that share a prompt are those of reading each with it."""

import pytest
import torch

from guardrail.errors import GenerationError, PromptError, ResponseError
from guardrail.models import forward as likelihoods
from guardrail.models.forward import log_likelihoods
from guardrail.models.prompt import EncodedPrompt
from tests.support.tiny import (
    FAMILIES,
    WINDOW,
    local,
    some_ids,
    some_prompt,
    tiny_config,
    tiny_model,
    tiny_weights,
)

pytestmark = pytest.mark.usefixtures("exact")

# Plain keys and values, windows, learned positions, alibi, experts.
SHARING = ["llama", "mistral", "gemma2", "gemma3", "gpt2", "falcon-alibi", "qwen3-moe", "gpt-oss"]
# Recurrent states.
READING = ["mamba", "recurrent-gemma"]
RESPONSES = [some_ids(length, seed=seed) for seed, length in enumerate((6, 1, WINDOW + 3, 2))]


@pytest.mark.parametrize("length", [5, WINDOW + 9])
@pytest.mark.parametrize("name", [*SHARING, *READING])
def test_responses_of_any_length_are_as_likely_as_when_read_alone(name, length, monkeypatch):
    model, prompt = tiny_model(name), some_prompt(length, seed=7)
    expected = [sum(model.read_encoded([prompt], [response])[0].log_probabilities) for response in RESPONSES]
    over_one_prompt, shared = likelihoods._over_one_prompt, []
    monkeypatch.setattr(
        likelihoods, "_over_one_prompt", lambda *given: shared.append(over_one_prompt(*given)) or shared[-1]
    )
    assert log_likelihoods(model, prompt, RESPONSES) == pytest.approx(expected, rel=1e-9)
    assert [one is None for one in shared] == [name in READING]


def test_no_responses_have_no_likelihoods():
    assert log_likelihoods(tiny_model("llama"), some_prompt(5, seed=7), []) == []


def test_what_cannot_be_read_is_refused():
    model = tiny_model("llama")
    with pytest.raises(ResponseError, match="no tokens"):
        log_likelihoods(model, some_prompt(5, seed=7), [[1], []])
    with pytest.raises(PromptError, match="no tokens"):
        log_likelihoods(model, EncodedPrompt([], -1), [[1]])


def test_logits_that_are_not_numbers_are_no_likelihood():
    model = local(tiny_weights(tiny_config(FAMILIES["llama"])))
    model.model.lm_head.weight.fill_(torch.nan)
    with pytest.raises(GenerationError, match="not numbers"):
        log_likelihoods(model, some_prompt(5, seed=7), [[1, 2]])
