import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from guardrail.policy.answer_boxes import (
    Interval,
    TooManyBoxesError,
    boxes_of,
    is_covered,
    patterns_of,
    without,
)
from guardrail.policy.conditions import When
from guardrail.policy.decide import evaluate
from tests.support.policy_strategies import KNOWN, WHENS
from tests.support.policy_texts import check, rules

DEFAULT = "{id: default, action: abstain}"


def _is_in(evidence, boxes, patterns):
    """Whether an answer is in one of these boxes, by each of its facts."""

    def fits(key, domain):
        kind = key[0]
        if isinstance(domain, Interval):
            values = {"uncertainty": evidence.scores, "quantile": evidence.quantiles}
            value = evidence.confidence if kind == "confidence" else values[kind][key[1]]
            above = value >= domain.low if domain.with_low else value > domain.low
            return above and (value <= domain.high if domain.with_high else value < domain.high)
        if kind == "finish_reason":
            return evidence.finish_reason in domain
        if kind == "familiar":
            return evidence.familiar in domain
        if kind == "certified":
            error, confidence = key[1].split()
            when = When(certified={"max_error": float(error), "confidence": float(confidence)})
        else:
            when = When.model_validate({kind: [key[1]]})
        return evaluate(when, evidence).holds in domain

    return any(all(fits(key, domain) for key, domain in box.items()) for box in boxes)


@settings(max_examples=100, deadline=None)
@given(when=WHENS, evidence=KNOWN)
def test_the_boxes_of_conditions_hold_the_answers_that_they_hold_for(when, evidence):
    patterns = patterns_of([when])
    try:
        boxes = boxes_of(when, patterns)
    except TooManyBoxesError:
        assume(False)
    assert _is_in(evidence, boxes, patterns) == evaluate(when, evidence).holds


@settings(max_examples=100, deadline=None)
@given(whens=st.lists(WHENS, min_size=2, max_size=4), evidence=KNOWN)
def test_a_rule_that_is_said_never_to_decide_never_does(whens, evidence):
    patterns = patterns_of(whens)
    *above, last = whens
    try:
        taken = [box for when in above for box in boxes_of(when, patterns)]
        left = without(boxes_of(last, patterns), taken)
    except TooManyBoxesError:
        assume(False)
    decides = evaluate(last, evidence).holds and not any(evaluate(when, evidence).holds for when in above)
    assert _is_in(evidence, left, patterns) == decides


def test_where_conditions_are_too_tangled_nothing_is_claimed():
    each = [
        {"any": [{"uncertainty": {name: {"gt": at}}} for name in ("tokens", "semgrad", "exgrad")]}
        for at in range(9)
    ]
    tangled = When.model_validate({"all": each})
    with pytest.raises(TooManyBoxesError):
        boxes_of(tangled, patterns_of([tangled]))
    assert not is_covered([{}], [{("confidence",): Interval(0, at / 2000)} for at in range(1, 600)][::-1][:1])


@pytest.mark.parametrize(
    "lines",
    [
        # The one above leaves something.
        [
            "{id: a, when: {confidence: {gt: 0.5}}, action: flag}",
            "{id: b, when: {confidence: {gte: 0.5}}, action: pass}",
        ],
        [
            "{id: a, when: {confidence: {gte: 0.5}, tags: x}, action: flag}",
            "{id: b, when: {confidence: {gte: 0.7}}, action: pass}",
        ],
        [
            "{id: a, when: {tool_call: send_mail}, action: flag}",
            "{id: b, when: {tool_call: 'send_*'}, action: pass}",
        ],
        ["{id: a, when: {tool_call: 'a?'}, action: flag}", "{id: b, when: {tool_call: 'a*'}, action: pass}"],
        [
            "{id: a, when: {finish_reason: stop}, action: flag}",
            "{id: b, when: {finish_reason: [stop, length]}, action: pass}",
        ],
        # What is certified by one guarantee need not be by another.
        [
            "{id: a, when: {certified: {max_error: 0.05, confidence: 0.95}}, action: pass}",
            "{id: b, when: {certified: {max_error: 0.1, confidence: 0.9}}, action: flag}",
        ],
        # The default may have nothing left: there has to be one.
        [
            "{id: a, when: {confidence: {gt: 0.5}}, action: flag}",
            "{id: b, when: {confidence: {lte: 0.5}}, action: pass}",
        ],
    ],
)
def test_a_rule_that_may_decide_is_no_mistake(lines):
    assert check(rules(*lines, DEFAULT)).policy is not None


def test_a_rule_with_mistakes_takes_nothing_from_those_below():
    found = check(
        rules(
            "{id: a, when: {confidence: {gte: 7}}, action: pass}",
            "{id: b, when: {confidence: {gte: 0.9}}, action: pass}",
            DEFAULT,
        )
    )
    assert [mistake.path for mistake in found.mistakes] == ["rules[0].when.confidence.gte"]
