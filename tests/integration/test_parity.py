"""SmolLM2 gives the numbers that a plain run of the definitions gave (float32, four questions)."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from guardrail.errors import ModelUnavailableError
from guardrail.models.local import LocalModel
from guardrail.models.prompt import EncodedPrompt, encode_prompt
from guardrail.models.sampling import Sampling
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.score import score, score_batch

DATA = Path(__file__).parents[1] / "data" / "parity.jsonl"
ROWS = [json.loads(line) for line in DATA.read_text(encoding="utf-8").splitlines()]
PARTS = ("semgrad", "paragrad", "exgrad", "mean_entropy", "log_likelihood", "hybridgrad")
WITHIN = 1e-4
# As the code that made the numbers.
AVERAGED = ScoringOptions(reduction="mean")


@pytest.fixture(scope="module")
def model():
    try:
        return LocalModel.load("smollm2-135m")
    except ModelUnavailableError as error:
        pytest.skip(str(error))


def prompt_of(row):
    return EncodedPrompt(row["prompt_ids"], row["semantic_token"])


def assert_parity(found, row):
    wanted = {name: row[name] for name in PARTS}
    assert {name: getattr(found, name) for name in PARTS} == pytest.approx(wanted, rel=WITHIN)


def test_a_read_response_has_the_reference_numbers(model):
    row = ROWS[0]
    trace = model.read(prompt_of(row), row["response_ids"])
    found = score(model, trace, AVERAGED)
    assert found.computation == "truncated"
    assert trace.semantic_token == -4
    assert_parity(found, row)


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["query"])
def test_greedy_decoding_gives_the_reference_response_and_its_numbers(model, row):
    (trace,) = model.generate_encoded([prompt_of(row)], Sampling(max_tokens=64))
    assert trace.response_ids == row["response_ids"]
    assert trace.text.strip() == row["response"].strip()
    assert_parity(score(model, trace, AVERAGED), row)


@pytest.mark.slow
def test_a_batch_has_the_reference_numbers(model):
    traces = model.read_encoded([prompt_of(row) for row in ROWS], [row["response_ids"] for row in ROWS])
    for row, found in zip(ROWS, score_batch(model, traces, AVERAGED), strict=True):
        assert_parity(found, row)


@pytest.mark.slow
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
    found = score(model, model.read(prompt_of(row), row["response_ids"]), replace(AVERAGED, **option))
    assert getattr(found, part) == pytest.approx(row[name], rel=WITHIN)


def test_the_semantic_token_of_its_template_is_the_references(model):
    assert encode_prompt(model.tokenizer, "Hi?").semantic_token == ROWS[0]["semantic_token"] == -4
