"""SemGrad at a prompt's last positions, from one backward pass, and which of them may be t*."""

from dataclasses import replace

import pytest

from guardrail.models.local import LocalModel
from guardrail.models.sampling import Sampling
from guardrail.scoring.candidate_positions import (
    POSITIONS,
    CandidatePositions,
    count_candidates,
    prompt_end,
    shipped_paraphrases,
)
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.paraphrases import read_paraphrases
from guardrail.scoring.score import score, score_batch
from guardrail.scoring.semantic_scan import scan
from tests.support.agreement import EXACTLY, assert_agrees, reference
from tests.support.chat import tiny_chat, tiny_chat_model
from tests.support.templates import LLAMA31
from tests.support.tiny import (
    CHATML,
    LLAMA3,
    MISTRAL,
    local,
    some_ids,
    some_prompt,
    tiny_model,
    tiny_tokenizer,
)

# A plain one, sliding windows, tied weights, another way to tell positions, and one that is always run whole.
ARCHITECTURES = ["llama", "mistral", "gemma3", "gpt2", "qwen3-next"]


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("computation", ["truncated", "full"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_semgrad_at_every_position_is_what_scoring_there_gives(name, computation):
    model = tiny_model(name)
    prompts = [some_prompt(length, seed=length) for length in (14, 25, 17)]
    responses = [some_ids(length, seed=length) for length in (13, 4, 1)]
    traces = model.read_encoded(prompts, responses)
    options = ScoringOptions(computation=computation)
    found = score_batch(model, traces, options, release=False, positions=POSITIONS)
    alone = score_batch(model, traces, options, release=False)
    assert {one.computation for one in found} == {one.computation for one in alone}
    for position in range(-POSITIONS, 0):
        there = replace(options, semantic_token=position)
        for one, expected in zip(found, score_batch(model, traces, there, release=False), strict=True):
            assert one.semgrad_at[position] == pytest.approx(expected.semgrad, rel=EXACTLY)
    for one, expected in zip(found, alone, strict=True):
        assert one.semgrad_at[-4] == one.semgrad
        assert one.scores() == pytest.approx(expected.scores(), rel=EXACTLY)
        assert expected.semgrad_at == ()


@pytest.mark.usefixtures("exact")
def test_semgrad_at_a_position_of_a_generated_response_is_what_autograd_says():
    model = tiny_model("llama")
    (trace,) = model.generate_encoded([some_prompt(25, seed=1)], Sampling(max_tokens=6))
    (found,) = score_batch(model, [trace], positions=POSITIONS)
    assert found.computation == "truncated"
    for position in (-10, -7, -1):
        assert found.semgrad_at[position] == pytest.approx(reference(trace, position).semgrad, rel=EXACTLY)


@pytest.mark.usefixtures("exact")
def test_a_short_prompt_has_fewer_positions():
    model = tiny_model("llama")
    traces = model.read_encoded([some_prompt(6, 1), some_prompt(25, 2)], [some_ids(4, 1), some_ids(4, 2)])
    short, long = score_batch(model, traces, release=False, positions=POSITIONS)
    assert (len(short.semgrad_at), len(long.semgrad_at)) == (6, POSITIONS)
    assert_agrees(short, reference(traces[0]))
    (alone,) = score_batch(model, model.read_encoded([some_prompt(6, 1)], [some_ids(4, 1)]), positions=99)
    assert short.semgrad_at == pytest.approx(alone.semgrad_at, rel=EXACTLY)
    first = score(model, traces[0], ScoringOptions(semantic_token=-6))
    assert short.semgrad_at[0] == pytest.approx(first.semgrad, rel=EXACTLY)


@pytest.mark.parametrize(
    ("template", "after"),
    [(CHATML, 5), (LLAMA3, 5), (LLAMA31, 5), (MISTRAL, 1)],
    ids=["chatml", "llama3", "llama3.1", "mistral"],
)
def test_candidates_are_what_the_template_writes_after_the_text_and_its_last_token(template, after):
    model = local(tiny_model("llama").model, tokenizer=tiny_tokenizer(template, words=("assistant", "\n\n")))
    assert count_candidates(model) == after + 1
    one, other = (model.encode_prompt(text).ids for text in ("Why is it so?", "Who was this"))
    assert one[-after:] == other[-after:]
    assert one[-after - 1] != other[-after - 1]
    # The rule for models that nobody scanned is among them, for every family.
    assert -model.encode_prompt("Why?").semantic_token <= after + 1


def test_every_position_is_a_candidate_without_a_template():
    model = local(tiny_model("llama").model)
    assert count_candidates(model) == POSITIONS
    assert count_candidates(model, 4) == 4


def test_the_paraphrases_that_ship_are_read_and_scanned():
    queries = read_paraphrases(shipped_paraphrases())
    assert (len(queries.queries), queries.left_out, queries.refused) == (20, 0, [])
    assert {len(query.paraphrases) for query in queries.queries} == {2}
    model = tiny_chat_model()
    end = prompt_end(model)
    assert end is not None
    assert end.among == count_candidates(model)
    found = scan(model, queries.queries, POSITIONS)
    said = end.preservation
    assert said is not None
    assert said.scores == pytest.approx(found.upper_means.tolist())
    assert (said.position, said.runner_up) == (found.choice.position, found.choice.runner_up)
    assert (said.queries, said.prompts, said.tokens) == (20, 60, found.tokens)
    assert said.low <= said.margin <= said.high


def test_a_model_that_cannot_be_asked_a_lone_question_has_no_candidates():
    weights, tokenizer = tiny_chat()
    tokenizer.chat_template = "{{ raise_exception('No.') }}"
    assert prompt_end(LocalModel(weights, tokenizer, "tiny")) is None


def test_an_answer_is_scored_at_another_position_by_what_was_kept():
    model = tiny_chat_model()
    (trace,) = model.generate_batch(["Who wrote Faust?"], Sampling(max_tokens=5))
    (found,) = score_batch(model, [trace], positions=POSITIONS)
    kept = CandidatePositions(found.semgrad_at, 6, found.semantic_token.position)
    assert kept.candidates == range(-6, 0)
    for position in kept.candidates:
        again = score(model, trace, ScoringOptions(semantic_token=position))
        assert kept.scores_at(position, found.scores()) == pytest.approx(dict(again.scores()), rel=1e-4)
