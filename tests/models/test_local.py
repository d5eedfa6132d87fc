import pytest
import torch

from guardrail.errors import ModelReferenceError, OptionError, PromptError, ResponseError
from guardrail.models.prompt import EncodedPrompt
from guardrail.models.sampling import Sampling
from tests.support.tiny import (
    CHATML,
    FAMILIES,
    SPECIALS,
    VOCABULARY,
    Family,
    local,
    some_ids,
    some_prompt,
    tiny_config,
    tiny_model,
    tiny_tokenizer,
    tiny_weights,
)

pytestmark = pytest.mark.usefixtures("exact")
END = SPECIALS.index("<|im_end|>")
TOKENIZER = tiny_tokenizer(CHATML, end="<|im_end|>")


@pytest.fixture(scope="module")
def chat():
    return local(tiny_weights(tiny_config(FAMILIES["llama"])), "chat", [END], TOKENIZER)


@pytest.mark.parametrize(
    ("given_reason", "ends", "reason"),
    [(None, True, "stop"), ("stop", True, "stop"), ("length", False, "length")],
)
def test_a_text_is_read_with_the_end_of_turn_unless_it_was_cut_off(chat, given_reason, ends, reason):
    trace = chat.read("Hi?", "Hello 😀", finish_reason=given_reason)
    written = TOKENIZER("Hello 😀")["input_ids"]
    assert trace.response_ids == ([*written, END] if ends else written)
    assert trace.finish_reason == reason
    assert trace.text == "Hello 😀"
    assert "".join(trace.token_texts) == "Hello 😀" + ("<|im_end|>" if ends else "")


def test_a_text_of_a_base_model_ends_only_where_it_is_said_to():
    model = local(tiny_weights(tiny_config(FAMILIES["llama"])), end_ids=[2])
    written = model.tokenizer("Hello")["input_ids"]
    assert model.read("Once", "Hello").response_ids == written
    assert model.read("Once", "Hello", finish_reason="stop").response_ids == [*written, 2]
    assert model.read("Once", "Hello").finish_reason is None


def test_ids_are_read_as_they_are(chat):
    trace = chat.read("Hi?", [30, 31])
    assert (trace.response_ids, trace.finish_reason) == ([30, 31], None)
    assert chat.read(EncodedPrompt([40, 41], -1), [30, END]).finish_reason == "stop"


@pytest.mark.parametrize("response", ["", []])
def test_a_response_without_tokens_is_refused(chat, response):
    with pytest.raises(ResponseError, match="no tokens, so there is nothing to score"):
        chat.read("Hi?", response)


@pytest.mark.parametrize("token", [-1, VOCABULARY, 10**6])
def test_ids_outside_the_vocabulary_are_refused(chat, token):
    says = f"is {token}; chat knows ids 0 to {VOCABULARY - 1}"
    with pytest.raises(ResponseError, match=f"Token 1 of the response {says}"):
        chat.read("Hi?", [30, token])
    prompt = EncodedPrompt([30, 31, token], -1)
    for refused in (lambda: chat.read(prompt, [30]), lambda: chat.generate_encoded([prompt], Sampling(2))):
        with pytest.raises(PromptError, match=f"Token 2 of the prompt {says}"):
            refused()


def test_a_prompt_without_tokens_is_refused(chat):
    with pytest.raises(PromptError, match="no tokens"):
        chat.generate_encoded([EncodedPrompt([], -1)], Sampling(2))


def test_a_response_must_fit_the_context(chat):
    prompt = some_prompt(250, seed=1)
    assert len(chat.read_encoded([prompt], [some_ids(6, seed=2)])[0].response_ids) == 6
    with pytest.raises(ResponseError, match="257 tokens and chat reads 256"):
        chat.read_encoded([prompt], [some_ids(7, seed=2)])


@pytest.mark.parametrize("depth", [-0.1, 1.0, 2.5])
def test_a_depth_that_is_no_fraction_is_refused(chat, depth):
    with pytest.raises(OptionError, match=f"depth {depth}"):
        chat.read("Hi?", "Hello", depths=[depth])


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_summaries_are_of_the_states_that_predicted_the_response(name):
    model = tiny_model(name)
    prompts = [some_prompt(13, seed=1), some_prompt(9, seed=2)]
    made = model.generate_encoded(prompts, Sampling(5), depths=[0, 0.5, 2 / 3, 0.99])
    made += model.generate_encoded(prompts[:1], Sampling(1), depths=[0, 0.5, 2 / 3, 0.99])
    made += model.read_encoded(
        prompts, [some_ids(4, seed=3), some_ids(7, seed=4)], depths=[0, 0.5, 2 / 3, 0.99]
    )
    for trace in made:
        ids = torch.tensor([[*trace.prompt_ids, *trace.response_ids]])
        with torch.no_grad():
            states = model.model(ids, output_hidden_states=True, use_cache=False).hidden_states
        assert sorted(trace.hidden) == [0, 4, 5, 6]
        for layer, summary in trace.hidden.items():
            span = states[layer][0, len(trace.prompt_ids) - 1 : -1]
            torch.testing.assert_close(summary.mean, span.mean(0))
            torch.testing.assert_close(summary.last, span[-1])


def test_a_model_of_one_layer_has_no_upper_half():
    with pytest.raises(ModelReferenceError, match="no stack of decoder layers"):
        local(tiny_weights(tiny_config(Family("llama", {"num_hidden_layers": 1}))))


def test_a_model_of_two_layers_is_scored():
    model = local(tiny_weights(tiny_config(Family("llama", {"num_hidden_layers": 2}))))
    assert list(model.anatomy.upper_half) == [1]
    from guardrail.scoring.score import score

    assert score(model, model.read("Once", "Hello")).semgrad > 0


@pytest.mark.parametrize(
    ("name", "seen"), [("llama", False), ("gpt2", False), ("trocr", True), ("recurrent-gemma", True)]
)
def test_models_that_see_padding_run_one_by_one(name, seen):
    model = tiny_model(name)
    unequal = [some_prompt(13, seed=1), some_prompt(9, seed=2)]
    equal = [some_prompt(9, seed=3), some_prompt(9, seed=4)]
    for prompts, together in ((unequal, not seen), (equal, True)):
        one, other = model.generate_encoded(prompts, Sampling(3))
        assert (one.states is other.states) == together
        one, other = model.read_encoded(prompts, [[30, 31], [32]])
        assert (one.states is other.states) == together
