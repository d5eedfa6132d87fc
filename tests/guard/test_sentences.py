"""The sentences of an answer, each with scores of its own."""

from dataclasses import asdict

import pytest

from guardrail.guard import Guard
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.segments import score_segments, sentence_spans
from tests.support.guards import ASKED, SAID, policy_of, profile_file, tiny

pytestmark = pytest.mark.usefixtures("one_thread")

LONG = "Goethe wrote it. Marlowe wrote another one before him."


def guard_of(profile, *, sentences=True):
    return Guard(policy_of(profile=str(profile)).found_at(profile), tiny(), sentences=sentences)


@pytest.fixture(params=["sum", "mean"])
def calibrated(tmp_path, request):
    return profile_file(tmp_path, options=ScoringOptions(reduction=request.param))


def test_each_sentence_has_the_scores_of_the_mean_over_its_tokens(calibrated):
    answer = guard_of(calibrated).judge(ASKED, LONG)
    model = tiny()
    trace = model.read([{"role": "user", "content": ASKED}], LONG)
    spans = sentence_spans(trace)
    assert [(one.start, one.end) for one in answer.sentences] == spans
    assert len(spans) == 2
    expected = score_segments(model, trace, spans, ScoringOptions(reduction="mean"))
    for one, other in zip(answer.sentences, expected, strict=True):
        assert one.uncertainty.scores() == pytest.approx(other.scores(), rel=1e-4)
    assert answer.timings["sentences_s"] > 0
    assert answer.as_plain()["sentences"][1]["hybridgrad"] == answer.sentences[1].uncertainty.hybridgrad


def test_nothing_is_decided_by_them(calibrated):
    with_them, without = (guard_of(calibrated, sentences=on).judge(ASKED, LONG) for on in (True, False))
    told = ("sentences", "timings", "request", "uncertainty")
    one, other = (
        {name: value for name, value in asdict(answer).items() if name not in told}
        for answer in (with_them, without)
    )
    assert one == other
    assert without.sentences == ()


def test_a_single_sentence_is_not_scored_twice(calibrated):
    assert guard_of(calibrated).judge(ASKED, SAID).sentences == ()


def test_an_answer_whose_sentences_cannot_be_scored_is_withheld(calibrated, monkeypatch):
    def fail(*_args):
        raise RuntimeError("a secret")

    monkeypatch.setattr("guardrail.scoring.segments.score_segments", fail)
    answer = guard_of(calibrated).judge(ASKED, LONG)
    assert (answer.action, answer.rule, answer.sentences) == ("abstain", "on_error", ())
    assert "secret" not in answer.error
    assert LONG not in answer.text
