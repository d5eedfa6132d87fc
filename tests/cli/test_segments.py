import io
import json

import pytest
from rich.console import Console

from guardrail.calibration.confidence import ConfidenceModel, Term
from guardrail.calibration.profile import write_profile
from guardrail.cli.render import Segmented, print_segmented
from guardrail.models.fingerprint import fingerprint_model
from guardrail.models.local import LocalModel
from guardrail.models.trace import Trace
from guardrail.scoring.options import ScoringOptions, Span
from guardrail.scoring.uncertainty import SCORES, SemanticToken, TokenScore, Uncertainty
from tests.support.profiles import a_profile


def asked(run, *arguments):
    result = run("ask", "Who was it?", "--max-tokens", 12, "--json", *arguments)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_json_has_each_sentence_with_its_scores(run):
    plain, answer = asked(run), asked(run, "--segments", "--combine", "last")
    assert {name: answer[name] for name in plain if name != "timing"} == {
        name: value for name, value in plain.items() if name != "timing"
    }
    segments = answer["segments"]
    assert [at for one in segments for at in range(one["start"], one["end"])] == list(range(12))
    assert all(set(SCORES) < set(one) for one in segments)
    assert all((one["quantiles"], one["confidence"]) == (None, None) for one in segments)
    assert answer["combined"] == {
        "combine": "last",
        "reduction": "mean",
        **{name: segments[-1][name] for name in SCORES},
    }


def test_people_get_a_line_for_each_sentence(run):
    answer = asked(run, "--segments")
    printed = run("ask", "Who was it?", "--max-tokens", 12, "--segments").stdout
    for one in answer["segments"]:
        assert f"{one['hybridgrad']:.3g}" in printed
    assert "Worst of the sentences" in printed
    assert "SemGrad" in printed


def test_a_profile_places_each_sentence_and_promises_nothing(run, model_folder, tmp_path):
    path = tmp_path / "p.json"
    length = Term(score="tokens", transform="identity", weight=0.1)
    model = fingerprint_model(LocalModel.load(str(model_folder)))
    confidence = ConfidenceModel(inputs="signals", terms=(length,))
    write_profile(a_profile(model=model, confidence_model=confidence), path)
    answer = asked(run, "--segments", "--profile", path)
    assert answer["semantic_token"]["position"] == -4
    for one in answer["segments"]:
        assert 0 <= one["quantiles"]["hybridgrad"] <= 1
        assert 0 < one["confidence"] < 1
        assert one["confidence_is_calibrated"] is False
    printed = run("ask", "Who was it?", "--max-tokens", 12, "--segments", "--profile", path).stdout
    assert "Beside answers" in printed
    assert "none of its guarantees holds" in " ".join(printed.split())


def test_a_foreign_profile_is_refused_by_the_field_that_differs(run, tmp_path):
    path = tmp_path / "p.json"
    write_profile(a_profile(), path)
    result = run("ask", "Who?", "--segments", "--profile", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "model.weights" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--combine", "worst"], "--combine and --profile go with --segments."),
        (["--profile", "p.json"], "--combine and --profile go with --segments."),
        (["--segments", "--policy", "builtin:default"], "A policy decides on whole answers"),
        (["--segments", "--profile", "nowhere.json"], "nowhere.json"),
        (["--segments", "--profile", "p.json", "--reduction", "mean"], "With --profile, the profile says"),
    ],
)
def test_what_does_not_go_together_is_refused(run, arguments, sentence):
    result = run("ask", "Who?", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert sentence in result.stderr.splitlines()[-1]


def uncertainty(value, *tokens):
    return Uncertainty(
        *[value] * len(SCORES),
        [TokenScore(text, 1, -0.1, 0.5, 0.5) for text in tokens],
        SemanticToken(-1, "\n"),
        ScoringOptions(),
        "short",
        "",
        0.1,
    )


def test_each_sentence_is_coloured_by_its_own_hybridgrad(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    texts = ["One", ".", " Two", ".", "</s>"]
    trace = Trace("tiny", [1], [2] * 5, "One. Two.", texts, [], [], "stop", -1, 0.1)
    segmented = Segmented(
        [Span(0, 2), Span(2, 5)], [uncertainty(0.5, *texts[:2]), uncertainty(0.001, *texts[2:])], [], "worst"
    )
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=100)
    print_segmented(console, trace, uncertainty(0.2, *texts), segmented)
    first = console.file.getvalue().splitlines()[0]
    assert "One" in first
    # Rich keeps what a style was written as before, be it in 256 colours or in all.
    assert first.index("48;") < first.index("One")
    assert "48;" not in first[first.index("Two") - 8 :]
