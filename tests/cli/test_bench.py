import json

import pytest


def test_json_holds_the_costs_and_the_circumstances(run):
    result = run("bench", "--prompt-tokens", "40,90", "--answer-tokens", 3, "--rounds", 2, "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["rounds"] == 2
    assert report["answer_tokens"] == 3
    assert {"torch", "threads", "device", "dtype"} <= set(report["runtime"])
    assert report["runtime"]["dtype"] == "float32"
    assert [prompt["prompt_tokens"] for prompt in report["prompts"]] == [40, 90]
    for prompt in report["prompts"]:
        assert len(prompt["rounds"]) == 2
        for name in ("guard", "full"):
            assert prompt[name]["ratio"] == pytest.approx(prompt[name]["extra_s"] / prompt["generation_s"])
            assert prompt[name]["peak_bytes"] > 0
        assert prompt["guard"]["computation"] == "truncated"
        assert prompt["full"]["computation"] == "full"


def test_people_get_a_table_with_a_row_for_each_length(run):
    result = run("bench", "--prompt-tokens", "40,90", "--answer-tokens", 2, "--rounds", 1)
    assert "40 tokens" in result.stdout
    assert "90 tokens" in result.stdout
    assert "Guard adds" in result.stdout
    assert "measuring prompts of 90 tokens" in result.stderr
    assert max(map(len, result.stdout.splitlines()[1:])) <= 80


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--prompt-tokens", "600"], "A prompt of 600 tokens and an answer of 18 are more than the 512"),
        (["--prompt-tokens", "500"], "A prompt of 500 tokens and an answer of 18 are more than the 512"),
        (["--prompt-tokens", "3"], "A prompt of 3 tokens is too short"),
        (["--prompt-tokens", "-3"], "A prompt of -3 tokens is too short"),
        (["--prompt-tokens", "many"], "'many' is not a list of numbers such as 64,512,2048"),
        (["--rounds", "0"], "rounds"),
    ],
)
def test_a_length_that_cannot_be_measured_is_a_usage_error(run, arguments, sentence):
    result = run("bench", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in " ".join(result.stderr.split())
