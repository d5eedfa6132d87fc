"""Conditions and evidence of every kind, for properties that hold for all of them."""

from math import inf, nan

from hypothesis import strategies as st

from guardrail.calibration.profile import Guarantee
from guardrail.policy.conditions import When
from guardrail.policy.evidence import Evidence

SHARES = st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0])
NUMBERS = st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.5])
GUARANTEES = st.sampled_from([Guarantee(0.05, 0.95), Guarantee(0.1, 0.9)])
FAMILIAR = st.sampled_from(["untried", "familiar", "unlike"])
TAGS = ("public", "internal", "in*", "*")
TOOLS = ("send_mail", "send_*", "read", "*")


def _bounds(values):
    kinds = st.sampled_from(["gte", "gt", "lte", "lt"])
    return st.dictionaries(kinds, values, min_size=1, max_size=2)


_LEAVES = st.one_of(
    st.fixed_dictionaries({"confidence": _bounds(SHARES)}),
    st.fixed_dictionaries({"uncertainty": st.fixed_dictionaries({"tokens": _bounds(NUMBERS)})}),
    st.fixed_dictionaries({"quantile": st.fixed_dictionaries({"hybridgrad": _bounds(SHARES)})}),
    GUARANTEES.map(lambda one: {"certified": one._asdict()}),
    st.lists(st.sampled_from(["stop", "length"]), min_size=1).map(lambda some: {"finish_reason": some}),
    st.lists(FAMILIAR, min_size=1, max_size=2).map(lambda some: {"familiar": some}),
    st.lists(st.sampled_from(TAGS), min_size=1, max_size=2).map(lambda some: {"tags": some}),
    st.lists(st.sampled_from(TOOLS), min_size=1, max_size=2).map(lambda some: {"tool_call": some}),
)


def _combined(inner):
    return st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda some: {"all": some}),
        st.lists(inner, min_size=1, max_size=3).map(lambda some: {"any": some}),
        inner.map(lambda one: {"not": one}),
        st.tuples(inner, inner).map(lambda two: two[0] | two[1]),
    )


WHENS = st.recursive(_LEAVES, _combined, max_leaves=6).map(When.model_validate)

KNOWN = st.builds(
    Evidence,
    confidence=SHARES,
    scores=NUMBERS.filter(bool).map(lambda value: {"tokens": value}),
    quantiles=SHARES.map(lambda value: {"hybridgrad": value}),
    guarantees=st.frozensets(GUARANTEES),
    finish_reason=st.sampled_from(["stop", "length", "other"]),
    familiar=FAMILIAR,
    tags=st.frozensets(st.sampled_from(["public", "internal", "inner", "x"])),
    tool_calls=st.lists(st.sampled_from(["send_mail", "send_sms", "read", "write"])).map(tuple),
)

NOT_FINITE = st.sampled_from([nan, inf, -inf])
_ODD = st.one_of(
    NOT_FINITE,
    st.none(),
    st.booleans(),
    st.text(max_size=3),
    st.integers(-3, 3),
    st.binary(max_size=2),
    st.just(object()),
    st.just([1]),
    st.complex_numbers(max_magnitude=2),
)
_KEYS = _ODD.filter(lambda key: not isinstance(key, list))
ANYTHING = st.builds(
    Evidence,
    confidence=st.one_of(_ODD, SHARES),
    scores=st.one_of(
        _ODD,
        st.dictionaries(
            st.one_of(_KEYS, st.sampled_from(["tokens", "hybridgrad"])), st.one_of(_ODD, NUMBERS)
        ),
    ),
    quantiles=st.one_of(
        _ODD, st.dictionaries(st.sampled_from(["hybridgrad", "confidence"]), st.one_of(_ODD, SHARES))
    ),
    guarantees=st.one_of(
        _ODD, st.frozensets(GUARANTEES), st.just(frozenset({("a", "b")})), st.just(frozenset({1}))
    ),
    finish_reason=st.one_of(_ODD, st.sampled_from(["stop", "length"])),
    familiar=st.one_of(_ODD, FAMILIAR),
    uncertified=st.one_of(_ODD, st.just("the profile is a general one")),
    tags=st.one_of(_ODD, st.frozensets(st.sampled_from(["public", "internal"]))),
    tool_calls=st.one_of(_ODD, st.just(("send_mail",)), st.just((1,))),
    error=st.one_of(st.just(""), _ODD),
)
