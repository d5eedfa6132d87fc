import pytest

from guardrail.errors import OptionError
from guardrail.evaluation.samples import draw_samples
from guardrail.models.prompt import EncodedPrompt
from guardrail.models.sampling import Sampling
from tests.support.tiny import some_prompt, tiny_model

DRAWN = Sampling(max_tokens=6, temperature=1.0, seed=3)


@pytest.fixture(scope="module")
def model():
    return tiny_model("llama", end_ids=(30, 31, 32, 33, 34, 35))


@pytest.fixture(scope="module")
def prompts():
    return [some_prompt(7, seed=1), some_prompt(9, seed=2), some_prompt(7, seed=3)]


@pytest.mark.parametrize("rows", [1, 8, 100])
def test_every_prompt_gets_as_many_samples_as_asked_for_however_they_are_batched(
    model, prompts, rows, monkeypatch
):
    monkeypatch.setattr("guardrail.evaluation.samples.ROWS_AT_ONCE", rows)
    drawn = draw_samples(model, prompts, DRAWN, count=4)
    assert [len(samples) for samples in drawn] == [4, 4, 4]
    assert len({sample.token_ids for samples in drawn for sample in samples}) == 12


def test_a_sample_is_what_the_model_says_of_its_tokens_when_it_reads_them(model, prompts, exact):
    for prompt, samples in zip(prompts, draw_samples(model, prompts, DRAWN, count=3), strict=True):
        for one in samples:
            read = model.read(prompt, one.token_ids, depths=[0.5])
            assert one.log_probabilities == pytest.approx(read.log_probabilities, abs=1e-9)
            assert one.token_texts == tuple(read.token_texts)
            (hidden,) = read.hidden.values()
            assert one.embedding == pytest.approx(hidden.last.tolist(), abs=1e-6)


def test_the_same_seed_draws_the_same_and_another_seed_others(model, prompts):
    def texts(seed):
        sampling = Sampling(max_tokens=6, temperature=1.0, seed=seed)
        return [one.token_ids for of in draw_samples(model, prompts, sampling, count=3) for one in of]

    assert texts(1) == texts(1) != texts(2)


@pytest.mark.parametrize(
    ("sampling", "count", "words"),
    [(Sampling(), 10, "temperature above 0"), (DRAWN, 1, "at least 2")],
)
def test_what_gives_one_answer_only_is_refused(model, sampling, count, words):
    with pytest.raises(OptionError, match=words):
        draw_samples(model, [EncodedPrompt([40, 41], -1)], sampling, count)


def test_nothing_is_drawn_for_no_prompts(model):
    assert draw_samples(model, [], DRAWN, count=10) == []
