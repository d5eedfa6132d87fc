"""SmolLM2 gives the numbers that a plain run of the public code's definitions gave (float32, four questions)."""

import json
from pathlib import Path

import pytest

from guardrail.errors import ModelUnavailableError
from guardrail.models.local import LocalModel
from guardrail.models.prompt import EncodedPrompt
from guardrail.models.sampling import Sampling
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.score import score, score_batch

ROWS = [json.loads(line) for line in (Path(__file__).parents[1] / "data" / "parity.jsonl").open()]
PARTS = ("semgrad", "paragrad", "exgrad", "mean_entropy", "log_likelihood", "hybridgrad")
WITHIN = 1e-4


@pytest.fixture(scope="module")
def model():
    try:
        return LocalModel.load("smollm2-135m")
    except ModelUnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(params=ROWS, ids=lambda row: row["query"])
def row(request):
    return request.param


def prompt_of(row):
    return EncodedPrompt(row["prompt_ids"], row["semantic_token"])


def test_a_read_response_has_the_reference_numbers(model, row):
    found = score(model, model.read(prompt_of(row), row["response_ids"]))
    assert found.computation == "short"
    assert {name: getattr(found, name) for name in PARTS} == pytest.approx(
        {name: row[name] for name in PARTS}, rel=WITHIN
    )


def test_greedy_decoding_gives_the_reference_response_and_its_numbers(model, row):
    (trace,) = model.generate_encoded([prompt_of(row)], Sampling(max_tokens=64))
    assert trace.response_ids == row["response_ids"]
    assert trace.text.strip() == row["response"].strip()
    found = score(model, trace)
    assert {name: getattr(found, name) for name in PARTS} == pytest.approx(
        {name: row[name] for name in PARTS}, rel=WITHIN
    )


def test_a_batch_has_the_reference_numbers(model):
    traces = model.read_encoded([prompt_of(row) for row in ROWS], [row["response_ids"] for row in ROWS])
    for row, found in zip(ROWS, score_batch(model, traces), strict=True):
        assert {name: getattr(found, name) for name in PARTS} == pytest.approx(
            {name: row[name] for name in PARTS}, rel=WITHIN
        )


@pytest.mark.parametrize(
    ("option", "part", "name"),
    [
        ({"norm": "l2"}, "semgrad", "semgrad_rms"),
        ({"entropy_weight": False}, "semgrad", "semgrad_unweighted"),
        ({"layers": "last"}, "semgrad", "semgrad_last_layer"),
        ({"layers": "lower"}, "semgrad", "semgrad_lower_half"),
        ({"include_tied_embedding": True}, "paragrad", "paragrad_tied"),
        ({"include_tied_embedding": True}, "hybridgrad", "hybridgrad_tied"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value),
)
def test_an_ablation_has_the_reference_number(model, option, part, name):
    row = ROWS[0]
    found = score(model, model.read(prompt_of(row), row["response_ids"]), ScoringOptions(**option))
    assert getattr(found, part) == pytest.approx(row[name], rel=WITHIN)


def test_the_semantic_token_of_its_template_is_the_references(model):
    encoded = model.read("Hi?", "Hello").semantic_token
    assert encoded == ROWS[0]["semantic_token"] == -4
