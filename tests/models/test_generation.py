"""Generation is transformers' own, token for token; what guardrail adds is when a response ended, and why."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from transformers import GenerationConfig

from guardrail.errors import GenerationError, PromptError
from guardrail.models.decoding import INCOMPLETE, NO_CONTROLS, GenerationControls
from guardrail.models.replay.transformers_internals import quiet_transformers
from guardrail.models.sampling import Sampling
from guardrail.scoring.score import score, score_batch
from tests.support.agreement import assert_agrees, reference
from tests.support.tiny import (
    CHATML,
    FAMILIES,
    SPECIALS,
    VOCABULARY,
    local,
    some_prompt,
    tiny_config,
    tiny_model,
    tiny_tokenizer,
    tiny_weights,
)

pytestmark = pytest.mark.usefixtures("exact")
PROMPT = some_prompt(13, seed=1)


def weights(name="llama"):
    return tiny_weights(tiny_config(FAMILIES[name]))


def plain_generate(model, prompt, **options):
    config = GenerationConfig(**{"do_sample": False, "pad_token_id": 0, **options})
    with quiet_transformers(), torch.no_grad():
        return model.generate(torch.tensor([prompt.ids]), generation_config=config)[
            0, len(prompt.ids) :
        ].tolist()


@pytest.mark.parametrize("name", ["llama", "gemma2", "gemma3", "gpt2", "bloom", "lfm2", "gpt-oss"])
def test_greedy_is_what_transformers_generates(name):
    model = tiny_model(name)
    (trace,) = model.generate_encoded([PROMPT], Sampling(max_tokens=20))
    assert trace.response_ids == plain_generate(model.model, PROMPT, max_new_tokens=20)
    assert trace.finish_reason == "length"
    assert trace.usage == (13, 20)
    assert trace.usage.total_tokens == 33


def test_what_a_checkpoint_would_like_does_not_leak_into_greedy_decoding():
    model = weights()
    expected = plain_generate(model, PROMPT, max_new_tokens=20)
    model.generation_config.update(
        do_sample=True,
        temperature=0.1,
        top_k=3,
        top_p=0.5,
        repetition_penalty=1.3,
        no_repeat_ngram_size=2,
        min_new_tokens=3,
        bad_words_ids=[[expected[0]]],
        suppress_tokens=[expected[1]],
        forced_eos_token_id=7,
        max_new_tokens=2,
        num_beams=2,
    )
    (trace,) = local(model).generate_encoded([PROMPT], Sampling(max_tokens=20))
    assert trace.response_ids == expected


def test_a_seed_repeats_a_draw_and_leaves_the_callers_generator_alone():
    model = tiny_model("llama")

    def draw(seed, **options):
        torch.manual_seed(5)
        before = torch.get_rng_state()
        sampling = Sampling(12, **{"temperature": 1.0, "seed": seed, **options})
        (trace,) = model.generate_encoded([PROMPT], sampling)
        assert torch.equal(torch.get_rng_state(), before)
        return trace.response_ids

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert draw(1, temperature=1) == draw(1)
    assert draw(1, top_p=1e-6) == model.generate_encoded([PROMPT], Sampling(12))[0].response_ids


@pytest.mark.parametrize("options", [{"temperature": 1.0}, {"temperature": 1.3, "top_p": 0.7}])
def test_what_is_drawn_is_what_transformers_draws(options):
    model = weights()
    (trace,) = local(model).generate_encoded([PROMPT], Sampling(12, seed=3, **options))
    torch.manual_seed(3)
    assert trace.response_ids == plain_generate(
        model, PROMPT, do_sample=True, top_k=0, max_new_tokens=12, **options
    )


def test_models_that_draw_at_the_same_time_draw_as_if_alone():
    models = [tiny_model("llama"), local(weights(), "llama")]
    together = Barrier(2, timeout=60)

    def draw(seed, controls=NO_CONTROLS):
        sampling = Sampling(8, temperature=1.0, seed=seed, ignore_end=True)
        (trace,) = models[seed].generate_encoded([PROMPT], sampling, controls=controls)
        return trace.response_ids

    def token_by_token(seed):
        return draw(seed, GenerationControls(goes_on=lambda: together.wait() >= 0))

    with ThreadPoolExecutor(2) as threads:
        assert [*threads.map(token_by_token, [0, 1])] == [draw(0), draw(1)]


def test_a_draw_without_a_seed_goes_on_with_the_callers_generator():
    model = tiny_model("llama")
    torch.manual_seed(5)
    drawn = [
        model.generate_encoded([PROMPT], Sampling(12, temperature=1.0))[0].response_ids for _ in range(2)
    ]
    assert drawn[0] != drawn[1]


def test_statistics_are_of_the_raw_distribution_whatever_the_temperature():
    model = tiny_model("llama")
    (drawn,) = model.generate_encoded([PROMPT], Sampling(12, temperature=0.6, top_p=0.8, seed=1))
    (read,) = model.read_encoded([PROMPT], [drawn.response_ids])
    assert drawn.log_probabilities == pytest.approx(read.log_probabilities, rel=1e-9)
    assert drawn.entropies == pytest.approx(read.entropies, rel=1e-9)
    assert_agrees(score(model, drawn), reference(drawn))


def test_the_end_of_turn_is_part_of_the_response():
    greedy = tiny_model("llama").generate_encoded([PROMPT], Sampling(12))[0].response_ids
    end = greedy[5]
    model = local(weights(), "llama", end_ids=[end])
    (trace,) = model.generate_encoded([PROMPT], Sampling(12))
    assert trace.response_ids == greedy[: greedy.index(end) + 1]
    assert trace.finish_reason == "stop"
    assert_agrees(score(model, trace), reference(trace))
    (exact,) = model.generate_encoded([PROMPT], Sampling(len(trace.response_ids)))
    assert exact.finish_reason == "stop"
    (longer,) = model.generate_encoded([PROMPT], Sampling(12, ignore_end=True))
    assert len(longer.response_ids) == 12
    assert end not in longer.response_ids
    assert longer.finish_reason == "length"
    assert_agrees(score(model, longer), reference(longer))


@pytest.mark.parametrize("pad", ["<pad>", "</s>"])
def test_rows_that_end_early_hold_no_padding(pad):
    prompts = [some_prompt(13, seed=1), some_prompt(9, seed=2), some_prompt(16, seed=3)]
    alone = [
        tiny_model("llama").generate_encoded([prompt], Sampling(10))[0].response_ids for prompt in prompts
    ]
    first, second = alone[0][3], SPECIALS.index("</s>")
    model = local(weights(), "llama", [first, second], tiny_tokenizer(pad=pad))
    traces = model.generate_encoded(prompts, Sampling(10))
    for trace, ids in zip(traces, alone, strict=True):
        cut = ids.index(first) + 1 if first in ids else len(ids)
        assert trace.response_ids == ids[:cut]
        assert trace.finish_reason == ("stop" if first in ids else "length")
    assert len(traces[0].response_ids) <= 4
    for trace, found in zip(traces, score_batch(model, traces), strict=True):
        assert_agrees(found, reference(trace))


@pytest.mark.parametrize("pad", ["<pad>", "</s>"])
def test_a_stop_string_ends_its_row_and_is_cut_from_the_text(pad):
    prompts = [some_prompt(13, seed=1), some_prompt(9, seed=2)]
    model = local(weights(), "llama", [SPECIALS.index("</s>")], tiny_tokenizer(pad=pad))
    alone = [model.generate_encoded([prompt], Sampling(10))[0] for prompt in prompts]
    texts = enumerate(alone[0].token_texts[2:], start=2)
    at = next(i for i, text in texts if text.strip() and INCOMPLETE not in text)
    stop = alone[0].token_texts[at]
    assert stop not in alone[1].text
    traces = model.generate_encoded(prompts, Sampling(10, stop=(stop,)))
    first = next(i for i in range(10) if stop in model.tokenizer.decode(alone[0].response_ids[: i + 1]))
    assert traces[0].response_ids == alone[0].response_ids[: first + 1]
    assert traces[0].finish_reason == "stop"
    assert stop not in traces[0].text
    assert alone[0].text.startswith(traces[0].text)
    assert "".join(traces[0].token_texts) == model.tokenizer.decode(traces[0].response_ids)
    assert (traces[1].response_ids, traces[1].finish_reason) == (alone[1].response_ids, "length")
    for trace, found in zip(traces, score_batch(model, traces), strict=True):
        assert_agrees(found, reference(trace))


def test_a_stop_string_that_the_prompt_began_is_not_there_yet():
    """A stop string is looked for in the response: not across its beginning, and not in the padding."""
    tokenizer = tiny_tokenizer()
    model = local(weights(), "llama", [], tokenizer)
    expected = model.generate("Once upon", Sampling(6))
    across = "n" + expected.token_texts[0]
    trace = model.generate("Once upon", Sampling(6, stop=(across,)))
    assert trace.response_ids == expected.response_ids
    assert trace.finish_reason == "length"


def test_a_special_token_may_be_a_stop_string():
    end = SPECIALS.index("<|im_end|>")
    model = weights()
    with torch.no_grad():
        # All but always the next token.
        model.lm_head.weight[end] = 0
        model.lm_head.bias = torch.nn.Parameter(torch.zeros(VOCABULARY, dtype=torch.float64))
        model.lm_head.bias[end] = 1e3
    model = local(model)
    traces = model.generate_encoded([PROMPT, some_prompt(9, seed=2)], Sampling(6, stop=("<|im_end|>",)))
    assert [trace.response_ids for trace in traces] == [[end], [end]]
    assert [trace.text for trace in traces] == ["", ""]
    assert [trace.finish_reason for trace in traces] == ["stop", "stop"]


def test_max_tokens_are_capped_by_the_context():
    model = tiny_model("llama")
    (trace,) = model.generate_encoded([some_prompt(250, seed=1)], Sampling(max_tokens=20))
    assert len(trace.response_ids) == 6
    assert trace.finish_reason == "length"
    assert_agrees(score(model, trace), reference(trace))


@pytest.mark.parametrize("count", [256, 300])
def test_a_prompt_that_fills_the_context_is_refused(count):
    with pytest.raises(PromptError, match=f"has {count} tokens and llama reads 256 with the answer"):
        tiny_model("llama").generate_encoded([some_prompt(count, seed=1)], Sampling())


@pytest.mark.parametrize("sampling", [Sampling(4), Sampling(4, temperature=1.0, seed=1)])
@pytest.mark.parametrize("run", ["generate", "read"])
def test_weights_that_are_not_numbers_are_an_error(sampling, run):
    model = weights()
    model.model.layers[3].mlp.down_proj.weight.data[0, 0] = float("nan")
    model = local(model)
    runs = {
        "generate": lambda: model.generate_encoded([PROMPT], sampling),
        "read": lambda: model.read_encoded([PROMPT], [[30, 31, 32]]),
    }
    with pytest.raises(GenerationError, match=r"not numbers .*\(dtype float64\)"):
        runs[run]()


def test_a_masked_token_has_no_part_in_the_score():
    """Some models answer −∞ for tokens that they must not say."""
    model = weights()
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(VOCABULARY, dtype=torch.float64), requires_grad=False)
    model.lm_head.bias[100:200] = -torch.inf
    model = local(model)
    (trace,) = model.generate_encoded([PROMPT], Sampling(6))
    found = score(model, trace)
    assert not set(trace.response_ids) & set(range(100, 200))
    assert found.paragrad > 0


def test_questions_are_answered_by_way_of_the_chat_template():
    tokenizer = tiny_tokenizer(CHATML, end="<|im_end|>")
    model = local(weights(), "llama", [SPECIALS.index("<|im_end|>")], tokenizer)
    one, other = model.generate_batch(["Hi?", [{"role": "user", "content": "Who are you?"}]], Sampling(3))
    assert tokenizer.decode(one.prompt_ids) == "<|im_start|>user\nHi?<|im_end|>\n<|im_start|>assistant\n"
    assert one.semantic_token == other.semantic_token == -3
    assert model.generate("Hi?", Sampling(3)).response_ids == one.response_ids
    assert score(model, other).semantic_token.text == "<|im_start|>"
    assert model.generate_batch([]) == []
