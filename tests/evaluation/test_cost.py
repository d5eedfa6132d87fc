import pytest

from guardrail.errors import OptionError
from guardrail.evaluation import cost
from guardrail.evaluation.cost import measure_cost, prompt_of_length
from guardrail.models.prompt import EncodedPrompt, encode_prompt
from tests.support.chat import CONTEXT, tiny_chat_model


@pytest.fixture(scope="module")
def model():
    return tiny_chat_model()


@pytest.mark.parametrize("tokens", [40, 41, 97, 300, CONTEXT])
def test_a_prompt_is_exactly_as_long_as_asked_for(model, tokens):
    assert len(prompt_of_length(model, tokens).ids) == tokens


def test_a_tokenizer_that_does_not_count_words_is_refused(model, monkeypatch):
    always = EncodedPrompt([*range(40)], -4)
    monkeypatch.setattr(
        cost, "encode_prompt", lambda _, text: always if "fox" in text else EncodedPrompt([7], -1)
    )
    with pytest.raises(OptionError, match="no more tokens for a longer text"):
        prompt_of_length(model, 90)


def test_a_prompt_begins_and_ends_as_the_chat_template_has_it(model):
    real, made = encode_prompt(model.tokenizer, "The question?"), prompt_of_length(model, 60)
    end = -real.semantic_token
    assert made.semantic_token == real.semantic_token
    assert made.ids[-end:] == real.ids[-end:]
    assert made.ids[:6] == real.ids[:6]


def test_no_room_for_the_answer_is_refused(model):
    assert prompt_of_length(model, CONTEXT - 5, room=5)
    with pytest.raises(OptionError, match="more than the 512 that tiny reads"):
        prompt_of_length(model, CONTEXT - 5, room=6)


def test_what_the_guard_holds_grows_less_with_the_prompt_than_the_cache_does(one_thread, model):
    short, long = measure_cost(model, [64, 256], answer_tokens=4, rounds=1).prompts
    config = model.anatomy.config
    head_size = config.hidden_size // config.num_attention_heads
    cache = config.num_hidden_layers * 2 * config.num_key_value_heads * head_size * 4
    # Of one layer at a time: its attention weights, and room for the gradient of its keys and values.
    assert long.guard.peak_bytes - short.guard.peak_bytes < cache * (256 - 64)
    assert long.full.peak_bytes - short.full.peak_bytes > 4 * cache * (256 - 64)
    assert long.guard.peak_bytes < long.full.peak_bytes


def test_extra_is_what_was_added_to_the_generation_of_the_same_round(one_thread, model):
    (measured,) = measure_cost(model, [64], answer_tokens=2, rounds=1).prompts
    (only,) = measured.rounds
    assert measured.generation_s == only.generation_s
    added = only.guarded_generation_s - only.generation_s
    assert measured.guard.extra_s == pytest.approx(added + only.score_s)
    assert measured.full.extra_s == pytest.approx(added + only.full_score_s)
    assert measured.guard.ratio == pytest.approx(measured.guard.extra_s / only.generation_s)


def test_the_measurement_leaves_nothing_and_tells_how_far_it_is(one_thread, model):
    told = []
    measure_cost(model, [64, 80], answer_tokens=2, rounds=3, progress=lambda *step: told.append(step))
    assert {stage for stage, *_ in told} == {
        "measuring prompts of 64 tokens",
        "measuring prompts of 80 tokens",
    }
    assert told[-1][1] == told[-1][2]
    assert all(parameter.grad is None for parameter in model.model.parameters())


@pytest.mark.parametrize("arguments", [{"rounds": 0}, {"prompt_tokens": []}, {"answer_tokens": 0}])
def test_nothing_to_measure_is_refused(model, arguments):
    with pytest.raises(OptionError):
        measure_cost(model, **arguments)
