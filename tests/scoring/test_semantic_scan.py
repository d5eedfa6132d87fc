"""The Semantic Preservation Score against its definition, and what is chosen by it."""

from itertools import combinations, product

import numpy as np
import pytest
import torch

from guardrail.errors import GenerationError, OptionError, PromptError
from guardrail.models.forward import prompt_states
from guardrail.models.prompt import encode_prompt
from guardrail.scoring.paraphrases import ParaphrasedQuery
from guardrail.scoring.semantic_scan import QueryStates, choose, preservation, scan
from tests.support.chat import tiny_chat_model
from tests.support.tiny import (
    CHATML,
    FAMILIES,
    LAYERS,
    LLAMA3,
    MISTRAL,
    local,
    some_ids,
    tiny_config,
    tiny_model,
    tiny_tokenizer,
    tiny_weights,
)

QUERIES = [
    ParaphrasedQuery("Who wrote Faust?", ("Faust was written by whom?", "Name the author of Faust, please.")),
    ParaphrasedQuery("How high is the Eiffel Tower?", ("What is the height of the Eiffel Tower?",)),
    ParaphrasedQuery("Why is the sky blue?", ("What makes the sky look blue?", "Blue sky: why is that so?")),
]


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def by_definition(groups):
    """Mean cosine of wordings of one query − that of wordings of two; each query, and each two, once."""
    within = [np.mean([cosine(a, b) for a, b in combinations(group, 2)]) for group in groups]
    apart = [np.mean([cosine(a, b) for a, b in product(*two)]) for two in combinations(groups, 2)]
    return np.mean(within) - np.mean(apart)


def drawn_states(wordings=(2, 3, 5, 2), layers=2, positions=3, width=4, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.normal(size=(count, layers, positions, width)) for count in wordings]


def query_states(groups):
    directions = [group / np.linalg.norm(group, axis=-1, keepdims=True) for group in groups]
    return QueryStates.of(np.stack([one.sum(0) for one in directions]), np.array([*map(len, groups)]))


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_the_scores_of_a_model_are_those_of_the_definition(family):
    model = tiny_model(family)
    tokens = 6
    found = scan(model, QUERIES, tokens, batch_size=3)
    groups = []
    for query in QUERIES:
        states = []
        for text in (query.query, *query.paraphrases):
            ids = torch.tensor([encode_prompt(model.tokenizer, text).ids])
            with torch.no_grad():
                hidden = model.model(input_ids=ids, output_hidden_states=True).hidden_states
            states.append(torch.stack(hidden[:LAYERS])[:, 0, -tokens:].numpy())
        groups.append(np.stack(states))
    wanted = [
        [by_definition([group[:, layer, at] for group in groups]) for at in range(tokens)]
        for layer in range(LAYERS)
    ]
    np.testing.assert_allclose(found.scores, wanted, atol=1e-12)
    assert found.upper_half == LAYERS - LAYERS // 2
    assert found.upper_means == pytest.approx(np.mean(wanted[found.upper_half :], axis=0))
    assert (found.queries, found.prompts) == (3, 8)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("family", ["llama", "gemma2", "opt", "falcon-alibi", "mamba", "recurrent-gemma"])
def test_prompts_read_together_have_the_states_that_each_has_alone(family):
    model = tiny_model(family)
    prompts = [some_ids(count, seed=count) for count in (5, 12, 8, 12, 7)]
    together = {
        index: one
        for indices, states in prompt_states(model, prompts, 4, batch_size=3)
        for index, one in zip(indices, states, strict=True)
    }
    assert sorted(together) == [*range(5)]
    for index, ids in enumerate(prompts):
        ((_, alone),) = prompt_states(model, [ids], 4)
        assert alone.shape == (1, LAYERS, 4, 24)
        torch.testing.assert_close(together[index], alone[0], atol=1e-9, rtol=1e-7)


def test_states_that_are_not_numbers_are_an_error():
    model = tiny_chat_model(broken=True)
    with pytest.raises(GenerationError, match="hidden states that are not numbers"):
        list(prompt_states(model, [[200, 30, 31]], 2))


def test_directions_without_meaning_have_no_score():
    states = query_states(drawn_states(wordings=[6] * 40, width=64))
    assert abs(preservation(states)).max() < 0.03


def test_samples_count_a_query_as_often_as_it_was_drawn_and_never_compare_it_with_its_copy():
    groups = drawn_states(wordings=[3, 3, 3])
    states = query_states(groups)
    weights = np.array([[1.0, 1, 1], [2, 1, 0]])
    plain, drawn = preservation(states, weights)
    np.testing.assert_allclose(plain, preservation(states))
    directions = [group[:, 1, 2] for group in groups]
    within = [np.mean([cosine(a, b) for a, b in combinations(group, 2)]) for group in directions]
    apart = np.mean([cosine(a, b) for a, b in product(*directions[:2])])
    assert drawn[1, 2] == pytest.approx((2 * within[0] + within[1]) / 3 - apart)


def planted(positions, strength):
    """Drawn states of 30 queries; wordings of one are alike at one position, as much as ``strength``."""
    generator = np.random.default_rng(1)
    groups = drawn_states(wordings=[4] * 30, positions=positions, width=16)
    for group in groups:
        group[:, :, 1] += strength * generator.normal(size=(1, 2, 16))
    return query_states(groups)


def test_the_position_that_preserves_the_meaning_is_chosen_and_every_sample_agrees():
    choice = choose(planted(positions=4, strength=3), slice(None), slice(None))
    assert choice.position == -3
    assert choice.wins == {-4: 0, -3: 1, -2: 0, -1: 0}
    assert 0 < choice.low < choice.margin < choice.high
    assert choice.score > 0.5


def test_a_choice_by_chance_is_told_by_its_samples():
    choice = choose(planted(positions=4, strength=0), slice(None), slice(None))
    assert choice.low < 0 < choice.margin
    assert choice.wins[choice.position] < 0.95
    assert sum(choice.wins.values()) == pytest.approx(1)


def test_only_candidates_are_chosen():
    choice = choose(planted(positions=4, strength=3), slice(None), slice(-2, None))
    assert set(choice.wins) == {-2, -1}
    assert choice.position in choice.wins


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    ("template", "words", "candidates", "fixed"),
    [
        (LLAMA3, ("assistant", "\n\n"), 6, "<|eot_id|>"),
        (CHATML, ("assistant",), 6, "<|im_end|>"),
        (MISTRAL, (), 2, "[/INST]"),
        (None, (), 8, None),
    ],
    ids=["llama-3", "qwen", "mistral", "base"],
)
def test_candidates_are_what_the_template_writes_and_the_last_token_before(
    template, words, candidates, fixed
):
    weights = tiny_weights(tiny_config(FAMILIES["llama"]))
    model = local(weights, tokenizer=tiny_tokenizer(template, words))
    found = scan(model, QUERIES, 8)
    assert list(found.choice.wins) == [*range(-candidates, 0)]
    assert list(found.overall.wins) == [*range(-8, 0)]
    assert template is None or found.tokens[1 - candidates] == fixed
    # What ends the questions is not the same in all of them.
    assert found.tokens[-candidates] is None
    assert found.rule == encode_prompt(model.tokenizer, "Who?").semantic_token


@pytest.mark.usefixtures("one_thread")
def test_the_embeddings_of_template_tokens_tell_nothing():
    found = scan(tiny_chat_model(), QUERIES, 4)
    assert None not in found.tokens
    np.testing.assert_allclose(found.scores[0], 0, atol=1e-12)


@pytest.mark.parametrize(
    ("queries", "tokens", "error", "sentence"),
    [
        (QUERIES[:1], 4, OptionError, "1 of the queries has paraphrases, and at least 2 must"),
        ([ParaphrasedQuery("Who?", ())] * 3, 4, OptionError, "None of the queries has paraphrases"),
        (QUERIES, 1, OptionError, "tokens is 1"),
        (QUERIES, 100, OptionError, "tokens is 100, and the shortest prompt has"),
        ([*QUERIES, ParaphrasedQuery("Who? " * 600, ("Why?",))], 4, PromptError, "reads 512"),
    ],
)
def test_what_cannot_be_scanned_is_one_sentence(queries, tokens, error, sentence):
    with pytest.raises(error, match=sentence):
        scan(tiny_chat_model(), queries, tokens)
