import json
from dataclasses import replace

import pytest

from guardrail.errors import OptionError, RecordError
from guardrail.evaluation.evaluated_answers import Costs, parse_evaluated
from guardrail.evaluation.methods import Method, Sample
from guardrail.evaluation.requirements import EvaluationOptions, needs_of
from guardrail.models.sampling import Sampling
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.score import score
from guardrail.scoring.uncertainty import HiddenState
from tests.support.chat import tiny_chat_model
from tests.support.evaluated import record

L2 = ScoringOptions(norm="l2", exgrad=False)
OPTIONS = EvaluationOptions(Sampling(max_tokens=8))


def method(**needs):
    return Method("m", "M", "a paper", lambda answers: [], **needs)


@pytest.fixture(scope="module")
def whole():
    """A record with everything that one can hold."""
    model = tiny_chat_model()
    trace = model.read("Why?", "abc")
    return record(
        True,
        entropies=trace.entropies,
        log_probabilities=trace.log_probabilities,
        token_ids=trace.response_ids,
        token_texts=trace.token_texts,
        scored={way: score(model, trace, way, release=False) for way in (ScoringOptions(), L2)},
        samples=[Sample("so", [7, 2], ["s", "o"], [-1.0, -0.5], [0.5, 0.25])],
        asides={"p_true": 0.25},
        hidden=HiddenState(0.5, [1.0, 2.0], [3.0, 4.0]),
        costs=Costs(0.5, {L2: 0.25}, 1.0, 0.125, {L2: 1000}, 2000, "cpu"),
    )


def test_a_record_comes_back_from_its_line_as_it_was(whole):
    again = parse_evaluated(json.dumps(whole.as_plain()))
    assert again.as_plain() == whole.as_plain()
    assert again.costs == whole.costs
    for way, scored in whole.answered.scored.items():
        assert again.answered.scored[way].scores() == scored.scores()
        assert again.answered.scored[way].tokens == scored.tokens
    assert list(again.answered.samples[0].embedding) == [0.5, 0.25]


def test_a_record_of_earlier_versions_is_read_by_the_names_of_today(whole):
    line = json.dumps(whole.as_plain()).replace('"truncated"', '"short"')
    assert '"computation": "short"' in line
    again = parse_evaluated(line)
    assert again.as_plain() == whole.as_plain()
    assert needs_of([method(options=[L2])], OPTIONS).are_met(again)


@pytest.mark.parametrize(
    "damage",
    [
        lambda plain: plain.pop("tokens"),
        lambda plain: plain.pop("costs"),
        lambda plain: plain.update(correct="yes"),
        lambda plain: plain["scored"][0]["scores"].update(hybridgrad=None),
        lambda plain: plain["tokens"]["entropies"].pop(),
        lambda plain: plain["scored"][0]["options"].update(norm="l3"),
    ],
)
def test_a_record_that_was_changed_is_refused(whole, damage):
    plain = json.loads(json.dumps(whole.as_plain()))
    damage(plain)
    with pytest.raises((RecordError, OptionError)):
        parse_evaluated(json.dumps(plain))


def test_what_is_missing_is_what_the_methods_need_and_the_record_lacks(whole):
    needs = needs_of([method(options=[L2, ScoringOptions(layers="last")], asides=["p_true", "mi"])], OPTIONS)
    missing = needs.missing(whole)
    assert missing.ways == [ScoringOptions(layers="last")]
    assert (missing.samples, missing.asides, missing.hidden) == (False, ["mi"], False)
    assert needs_of([method(options=[L2], depth=0.25)], OPTIONS).missing(whole).hidden
    assert needs_of([method(samples=Sampling(temperature=1.0))], OPTIONS).missing(whole).is_nothing
    assert needs_of([method()], OPTIONS).are_met(whole)
    assert not needs_of([method()], OPTIONS).are_met(None)


def test_methods_that_draw_in_different_ways_are_not_run_together():
    drawn = [method(samples=Sampling(temperature=temperature)) for temperature in (0.5, 1.0)]
    with pytest.raises(OptionError, match="need samples of different kinds"):
        needs_of(drawn, OPTIONS)


def test_samples_are_as_long_as_answers_and_another_number_of_them_is_another_run(whole):
    ten = needs_of([method(samples=Sampling(temperature=1.0))], OPTIONS)
    assert ten.samples.max_tokens == 8
    made = replace(whole, provenance=ten.provenance(whole.provenance.model))
    assert not ten.difference(made, None)
    five = needs_of(
        [method(samples=Sampling(temperature=1.0))], EvaluationOptions(Sampling(max_tokens=8), samples=5)
    )
    assert "was made with samples.count 10, and this run has 5" in five.difference(made, None)
    assert not needs_of([method()], OPTIONS).difference(made, None)
