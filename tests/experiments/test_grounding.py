"""How much a document moved an answer: two readings of the same tokens, and what is claimed of them."""

import numpy as np
import pytest
import torch

from experiments.grounding.candidates import CANDIDATES, NAMED_BEFOREHAND, OF_TOKENS, candidates_of
from experiments.grounding.comparing import Ranking, folds, measured, out_of_fold
from experiments.grounding.documents import prompts_of
from experiments.grounding.reading import Answers, Reading, read_tokens
from guardrail.metrics.confidence_quality import auroc
from guardrail.metrics.intervals import resampled
from tests.support.chat import tiny_chat_model

PASSAGE = "The gate is shut at ten."
ASKED = [
    {"question": "When?", "context": PASSAGE, "answers": {"text": ["ten"]}},
    {"question": "Who shuts the gate?", "context": f"{PASSAGE} Ann shuts it.", "answers": {"text": ["Ann"]}},
    {"question": "Why?", "context": "A fox.", "answers": {"text": ["foxes"]}},
]


def plainly(model, prompt, response):
    """Log-probability and entropy of each token, by one forward pass of the bare ids."""
    ids = model.encode_prompt(prompt).ids
    with torch.no_grad():
        logits = model.model(input_ids=torch.tensor([[*ids, *response]]), use_cache=False).logits[0]
    log_p = torch.log_softmax(logits[len(ids) - 1 : -1].double(), dim=-1)
    return log_p[range(len(response)), response].numpy(), -(log_p.exp() * log_p).sum(-1).numpy()


@pytest.fixture(scope="module")
def read():
    model = tiny_chat_model()
    responses = [model.encode_response(text) for text in ("At ten.", "Ann does.", "Because of the fox.")]
    prompts = [prompts_of(line) for line in ASKED]
    readings = [read_tokens(model, side, responses) for side in zip(*prompts, strict=True)]
    return model, prompts, responses, readings


@pytest.mark.parametrize("side", [0, 1])
def test_a_batch_is_read_as_plain_forward_passes_read_each_answer(read, side):
    model, prompts, responses, readings = read
    for row, response in enumerate(responses):
        log_probabilities, entropies = plainly(model, prompts[row][side], response)
        kept = slice(len(response))
        assert readings[side].log_probabilities[row, kept] == pytest.approx(log_probabilities, abs=1e-4)
        assert readings[side].entropies[row, kept] == pytest.approx(entropies, abs=1e-4)
        assert np.isnan(readings[side].entropies[row, len(response) :]).all()


def test_the_gain_is_what_the_document_added_to_the_likelihood(read):
    model, prompts, responses, (given, without) = read
    total = np.nansum(given.log_probabilities, 1)
    answers = Answers(
        name="some",
        correct=np.array([True, False, True]),
        evidence=np.array(["stated"] * 3),
        groups=np.array(["a", "a", "b"]),
        scores={"log_likelihood": total},
        signals=total[:, None],
        hidden=None,
        without=without,
        given=given,
    )
    expected = [
        (plainly(model, both.given, one)[0] - plainly(model, both.without, one)[0]).mean()
        for both, one in zip(prompts, responses, strict=True)
    ]
    assert CANDIDATES[NAMED_BEFOREHAND](answers) == pytest.approx(np.array(expected), abs=1e-4)
    gains = given.log_probabilities - without.log_probabilities
    assert OF_TOKENS["largest gain of a token"](answers) == pytest.approx(np.nanmax(gains, 1))
    row, at = 0, int(np.nanargmax(given.entropies[0]))
    assert OF_TOKENS["gain of the token of most entropy"](answers)[row] == pytest.approx(gains[row, at])
    assert set(OF_TOKENS) < set(candidates_of(answers))


def test_the_document_is_what_is_taken_out_of_the_prompt():
    assert prompts_of(ASKED[0]) == (f"{PASSAGE}\n\nWhen?", "When?")
    asked = {"role": "user", "content": "When?"}
    system = {"role": "system", "content": f"You answer guests. Use this text: {PASSAGE}"}
    found = prompts_of({"messages": [system, asked]})
    assert found is not None
    assert found.given == [system, asked]
    assert found.without == [{**system, "content": "You answer guests. Use this text:"}, asked]
    first = {"role": "user", "content": f"{PASSAGE}\n\nWhen?"}
    later = [{"role": "assistant", "content": "At ten."}, {"role": "user", "content": "Why?"}]
    assert prompts_of({"messages": [first, *later]}) == ([first, *later], [asked, *later])


@pytest.mark.parametrize(
    "line",
    [
        {"question": "When?"},
        {"messages": [{"role": "user", "content": "When?"}]},
        {"messages": [{"role": "system", "content": PASSAGE}, {"role": "user", "content": "When?"}]},
    ],
)
def test_where_no_document_can_be_told_apart_there_is_none(line):
    assert prompts_of(line) is None


def drawn(seed=0, count=200):
    rng = np.random.default_rng(seed)
    correct = rng.random(count) < 0.4
    return rng, correct, np.repeat([f"p{at}" for at in range(count // 4)], 4)


def test_the_ranking_is_the_auroc_and_its_draws_take_whole_documents():
    rng, correct, groups = drawn()
    score = np.round(rng.normal(size=len(correct)) + correct, 1)
    values = Ranking(correct, groups).auroc(score)
    assert values[0] == pytest.approx(float(auroc(score, correct)))
    assert values[1:] == pytest.approx(resampled(auroc, score, correct, groups=groups))


def test_a_score_that_tells_only_the_evidence_ranks_nothing_within_it():
    rng, _, groups = drawn(1)
    stated = rng.random(200) < 0.6
    correct = stated & (rng.random(200) < 0.5)
    correct[:5] = True
    score = stated + 0.1 * rng.normal(size=200)
    ranking = Ranking(correct, groups)
    assert measured(ranking.auroc(score)).low > 0.6
    within = measured(ranking.auroc(score, ranking.same(stated)))
    assert within.low < 0.5 < within.high
    only = ranking.auroc(score, ranking.within(stated))[0]
    assert only == pytest.approx(float(auroc(score[stated], correct[stated])))


def test_what_is_fitted_ranks_answers_of_documents_that_it_did_not_see():
    rng, correct, groups = drawn(2)
    told = rng.normal(size=200) + 2 * correct
    # A column that names the document: of use to whoever has seen answers about it.
    of_document = rng.normal(size=50).repeat(4)
    divisions = folds(None, correct, groups)
    assert all(not set(groups[one.train]) & set(groups[one.test]) for one in divisions)
    logits = out_of_fold(np.column_stack([told, of_document]), correct, divisions)
    assert float(auroc(logits, correct)) > 0.85
    hidden = rng.normal(size=(200, 32)).astype(np.float32)
    hidden[:, 0] += 4 * correct
    with_probe = out_of_fold(of_document[:, None], correct, folds(hidden, correct, groups))
    assert float(auroc(with_probe, correct)) > 0.9


def test_a_reading_that_is_missing_is_not_taken_for_one():
    nothing = np.zeros((2, 3))
    answers = Answers(
        name="some",
        correct=np.array([True, False]),
        evidence=np.array(["stated"] * 2),
        groups=np.array(["a", "b"]),
        scores={"log_likelihood": np.array([-1.0, -2.0])},
        signals=np.zeros((2, 1)),
        hidden=None,
        without=Reading(nothing, nothing),
    )
    assert set(candidates_of(answers)) == set(CANDIDATES)
    with pytest.raises(ValueError, match="were not read"):
        OF_TOKENS["largest gain of a token"](answers)
