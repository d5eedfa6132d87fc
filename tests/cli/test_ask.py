import io
import json

import pytest
from rich.console import Console

from guardrail.cli.common import results
from guardrail.cli.render import answer_text, print_answer
from guardrail.models.prompt import EncodedPrompt
from guardrail.models.trace import Trace
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.uncertainty import SemanticToken, TokenScore, Uncertainty
from tests.support.chat import BROKEN_TOKEN, CONTEXT

SCORES = [
    "hybridgrad",
    "semgrad",
    "paragrad",
    "exgrad",
    "mean_entropy",
    "max_entropy",
    "sum_entropy",
    "log_likelihood",
    "perplexity",
    "min_token_probability",
]
FIELDS = [
    "answer",
    "model",
    "finish_reason",
    "uncertainty",
    "tokens",
    "semantic_token",
    "computation",
    "computation_reason",
    "usage",
    "timing",
]


def asked(run, *arguments, **options):
    result = run("ask", "Who was it?", "--max-tokens", 6, "--json", *arguments, **options)
    assert result.exit_code == 0, result.stderr
    (line,) = result.stdout.splitlines()
    return json.loads(line)


def test_json_is_one_object_with_every_score(run, model_folder):
    answer = asked(run)
    assert list(answer) == FIELDS
    assert list(answer["uncertainty"]) == SCORES
    assert all(isinstance(value, float) for value in answer["uncertainty"].values())
    assert answer["model"] == str(model_folder)
    assert answer["usage"]["completion_tokens"] == len(answer["tokens"]) == 6
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + 6
    assert answer["finish_reason"] == "length"
    assert list(answer["tokens"][0]) == ["text", "id", "log_probability", "entropy", "weight"]
    assert answer["semantic_token"]["text"] == "<|im_start|>"
    assert answer["computation"] == "truncated"
    assert set(answer["timing"]) == {"generate_s", "score_s"}


def test_only_the_result_is_on_stdout(run):
    result = run("ask", "Who was it?", "--max-tokens", 2, "--json")
    assert json.loads(result.stdout)
    assert result.stderr.splitlines()[-2:] == ["answering", "scoring"]


def test_people_get_the_answer_then_the_scores_in_words(run):
    answer = asked(run)
    printed = run("ask", "Who was it?", "--max-tokens", 6).stdout
    (row,) = [line.split() for line in printed.splitlines() if line.startswith("HybridGrad")]
    assert row[1] == f"{answer['uncertainty']['hybridgrad']:.3g}"
    for words in (
        "SemGrad",
        "ParaGrad",
        "higher means less sure",
        "6 in the answer, cut off there",
        "truncated",
    ):
        assert words in printed
    assert "“<|im_start|>”" in printed
    assert "\x1b[" not in printed


def test_the_options_of_the_answer_have_an_effect(run):
    plain = asked(run)
    drawn = [asked(run, "--temperature", 2.0, "--top-p", 0.9, "--seed", seed)["answer"] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert asked(run, "--system", "Be brief.")["usage"]["prompt_tokens"] > plain["usage"]["prompt_tokens"]
    stop = plain["tokens"][2]["text"]
    stopped = asked(run, "--stop", "never said", "--stop", stop)
    assert stopped["finish_reason"] == "stop"
    assert stop not in stopped["answer"]


def test_the_options_of_the_score_have_an_effect(run):
    total, mean = asked(run)["uncertainty"], asked(run, "--reduction", "mean")["uncertainty"]
    assert total["semgrad"] == pytest.approx(6 * mean["semgrad"], rel=1e-3)
    last = asked(run, "--semantic-token", -1)
    assert last["semantic_token"] == {"position": -1, "text": "\n", "source": "given"}
    assert last["uncertainty"]["semgrad"] != total["semgrad"]
    assert asked(run, "--dtype", "float64")["uncertainty"]["semgrad"] == pytest.approx(
        total["semgrad"], rel=1e-3
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([""], "The question is empty."),
        (["  "], "The question is empty."),
        (["why? " * CONTEXT], "The prompt has 2,5"),
        (["Who?", "--max-tokens", 0], "max_tokens is 0"),
        (["Who?", "--temperature", "nan"], "temperature is nan"),
        (["Who?", "--semantic-token", 2], "semantic_token is 2"),
        (["Who?", "--semantic-token", -999, "--max-tokens", 1], "semantic_token is -999"),
        (["Who?", "--dtype", "int3"], "dtype='int3'"),
        (["Who?", "--device", "abacus"], "device='abacus'"),
        (["Who?", "--model", "smolm2"], "unknown model 'smolm2'"),
        (["Who?", "--model", "./nowhere"], "no such folder"),
    ],
)
def test_what_the_caller_got_wrong_is_one_sentence_and_status_2(run, arguments, sentence):
    result = run("ask", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1].startswith(f"error: {sentence}")
    assert "Traceback" not in result.stderr


def test_a_folder_without_weights_is_refused(run, tmp_path):
    result = run("ask", "Who?", model=tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "config.json" in result.stderr


def test_a_hub_model_that_is_not_here_cannot_be_had_offline(run, tmp_path):
    result = run("ask", "Who?", model="someone/something", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1].startswith("error: someone/something")


def test_an_error_is_json_too_where_json_was_asked_for(run):
    result = run("ask", "", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout) == {
        "error": {"type": "PromptError", "message": "The question is empty."}
    }


def test_logits_that_are_not_numbers_give_no_answer(run, broken_folder, monkeypatch):
    monkeypatch.setattr("guardrail.models.local.encode_prompt", _broken_prompt)
    result = run("ask", "Who?", model=broken_folder)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1].startswith("error: The model gave logits that are not numbers")


def _broken_prompt(tokenizer, prompt, tools=None, chat_template_kwargs=None):
    return EncodedPrompt([BROKEN_TOKEN, 20, 21], -1)


def test_a_question_that_is_no_text_is_refused(run):
    result = run("ask", "Who\udcff?")
    assert (result.exit_code, result.stdout) == (2, "")


def trace_of(text, finish_reason="stop"):
    return Trace("tiny", [1], [2], text, [], [], [], finish_reason, -1, 0.1)


def tokens_of(*pairs):
    return [TokenScore(text, at, -0.1, weight, weight) for at, (text, weight) in enumerate(pairs)]


def backgrounds(text):
    return {text.plain[span.start : span.end]: str(span.style) for span in text.spans}


def test_each_token_is_coloured_by_its_weight_beside_the_largest():
    tokens = tokens_of(("Par", 0.5), ("is", 0.01), (" now", 1.0), ("<|im_end|>", 0.25))
    text = answer_text(trace_of("Paris now"), tokens, colours=lambda share: f"share {share:g}")
    assert text.plain == "Paris now ∎"
    assert backgrounds(text) == {"Par": "share 0.5", "is": "share 0.01", " now": "share 1", "∎": "share 0.25"}


@pytest.mark.parametrize(
    ("tokens", "answer"),
    [
        ([(" Paris", 1.0), (" it", 1.0), (" is", 1.0)], "Paris it is"),
        ([("Paris", 1.0), (" it STOP", 1.0)], "Paris it"),
        ([("<s>", 1.0), ("Paris", 1.0)], "Paris"),
        ([("", 1.0), ("é", 0.0)], "é"),
        ([("something", 1.0)], "other"),
        ([("a", 0.0)], "a"),
    ],
)
def test_the_coloured_text_is_the_answer_whatever_the_tokens_are(tokens, answer):
    trace = trace_of(answer, finish_reason="length")
    assert answer_text(trace, tokens_of(*tokens), colours=str).plain == answer


@pytest.mark.parametrize("colours", [None, lambda _: "red"])
def test_a_model_cannot_give_orders_to_the_terminal(capsys, colours):
    said = "a\x1b[2Jb\x9bc\nd"
    results().print(answer_text(trace_of(said), tokens_of((said, 1.0)), colours=colours))
    assert capsys.readouterr().out.startswith("a�[2Jb�c\nd")


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colour_is_for_terminals_that_want_it(monkeypatch, environment, coloured):
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", **environment}.items():
        monkeypatch.setenv(name, value)
    tokens = tokens_of(("Paris", 1.0), ("<|im_end|>", 0.1))
    numbers = [0.1] * 10
    uncertainty = Uncertainty(
        *numbers, tokens, SemanticToken(-1, "\n"), ScoringOptions(), "truncated", "", 0.1
    )
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    print_answer(console, trace_of("Paris"), uncertainty)
    first = console.file.getvalue().splitlines()[0]
    assert (first != "Paris") == coloured
