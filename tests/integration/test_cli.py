"""The command line with the weights that come with the package."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from guardrail.cli.main import app

PARITY = Path(__file__).parents[1] / "data" / "parity.jsonl"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def expected():
    return [json.loads(line) for line in PARITY.read_text().splitlines()]


def scored(*arguments):
    result = CliRunner().invoke(
        app,
        [
            "score",
            str(PARITY),
            "--semantic-token",
            "-4",
            "--reduction",
            "mean",
            *arguments,
        ],
    )
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (
            [],
            ["semgrad", "paragrad", "exgrad", "mean_entropy", "log_likelihood", "hybridgrad"],
        ),
        (["--norm", "l2"], {"semgrad": "semgrad_rms"}),
        (["--no-entropy-weight"], {"semgrad": "semgrad_unweighted", "paragrad": "exgrad"}),
        (["--layers", "last"], {"semgrad": "semgrad_last_layer"}),
        (["--layers", "lower"], {"semgrad": "semgrad_lower_half"}),
        (["--tied-embedding"], {"paragrad": "paragrad_tied", "hybridgrad": "hybridgrad_tied"}),
    ],
)
def test_the_scores_are_those_of_the_papers_code(expected, arguments, names):
    names = names if isinstance(names, dict) else dict.fromkeys(names)
    for record, row in zip(scored(*arguments), expected, strict=True):
        assert record["query"] == row["query"]
        assert record["semantic_token"] == {"position": -4, "text": "<|im_start|>", "source": "given"}
        for name, theirs in names.items():
            assert record["uncertainty"][name] == pytest.approx(row[theirs or name], rel=1e-3), name


def test_a_question_is_answered_and_scored():
    result = CliRunner().invoke(
        app, ["ask", "What is the capital of France?", "--max-tokens", "12", "--json"]
    )
    answer = json.loads(result.stdout)
    assert "Paris" in answer["answer"]
    assert answer["finish_reason"] == "stop"
    assert 0 < answer["uncertainty"]["hybridgrad"] < 1
    read = CliRunner().invoke(app, ["ask", "What is the capital of France?", "--max-tokens", "12"])
    assert read.stdout.startswith(answer["answer"])
