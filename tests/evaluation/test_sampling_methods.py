import sys
from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.errors import MissingDependencyError, OptionError, ScoringError
from guardrail.evaluation.sampling_methods import check_available, sampled_methods
from guardrail.evaluation.similarity import STAND_IN
from guardrail.models.sampling import Sampling
from tests.support.similarity import ByFirstWord, answered, sample

BY_MEANING = {"semantic_entropy", "semantic_density", "self_consistency"}
BY_SIMILARITY = {"token_sar", "sentence_sar", "sar"}


@pytest.fixture
def methods():
    return sampled_methods(nli=ByFirstWord(), cross_encoder=ByFirstWord())


def test_each_method_names_its_paper_and_what_it_needs(methods):
    others = {"predictive_entropy", "eigen_score", "p_true", "mutual_information"}
    assert set(methods) == BY_MEANING | BY_SIMILARITY | others
    for name, method in methods.items():
        assert method.name == name
        assert any(year in method.paper for year in ("2022", "2023", "2024"))
        assert method.similarity == (
            "nli" if name in BY_MEANING else "cross_encoder" if name in BY_SIMILARITY else ""
        )
        assert method.asides == ((name,) if name in ("p_true", "mutual_information") else ())
    assert [name for name, method in methods.items() if method.samples is None] == ["token_sar"]


def test_all_are_drawn_for_in_one_way():
    sampling = Sampling(temperature=0.5, seed=9)
    drawn = {method.samples for method in sampled_methods(sampling=sampling).values()}
    assert drawn == {sampling, None}


@pytest.mark.parametrize("name", sorted(BY_MEANING | BY_SIMILARITY))
def test_a_method_without_its_second_model_says_how_to_name_one(name):
    option = "--nli" if name in BY_MEANING else "--cross-encoder"
    with pytest.raises(OptionError, match=f"name one with {option}, or use .* {option} {STAND_IN}"):
        check_available(sampled_methods()[name])


def test_a_stand_in_is_told_of_by_each_method_that_uses_it_and_by_no_other():
    for nli, cross_encoder in ((STAND_IN, None), ("some/nli", STAND_IN), (None, None)):
        for name, method in sampled_methods(nli=nli, cross_encoder=cross_encoder).items():
            given = nli if name in BY_MEANING else cross_encoder if name in BY_SIMILARITY else None
            assert ("all-MiniLM-L6-v2" in method.stand_in) == (given == STAND_IN)


@pytest.mark.parametrize("name", ["predictive_entropy", "semantic_entropy", "sar", "eigen_score"])
def test_without_lm_polygraph_the_remedy_is_named(methods, name, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_polygraph.estimators", None)
    monkeypatch.setitem(sys.modules, "lm_polygraph", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "guardrail-llm\[evaluate\]"'):
        check_available(methods[name])


@pytest.mark.parametrize("name", ["self_consistency", "p_true", "mutual_information"])
def test_what_lm_polygraph_lacks_does_without_it(methods, name, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_polygraph", None)
    check_available(methods[name])


@pytest.mark.parametrize(
    ("samples", "disagreeing"),
    [(["fox", "fox", "fox"], 0), (["owl", "hen"], 1), (["fox", "owl", "fox runs", "hen"], 0.5)],
)
def test_self_consistency_is_the_share_of_samples_that_mean_something_else(methods, samples, disagreeing):
    one = answered("fox", *map(sample, samples))
    assert methods["self_consistency"].estimate([one]) == [disagreeing]


@given(st.permutations(["fox", "owl", "fox runs", "hen", "fox"]))
def test_self_consistency_does_not_hang_on_the_order_of_the_samples(samples):
    method = sampled_methods(nli=ByFirstWord())["self_consistency"]
    assert method.estimate([answered("fox", *map(sample, samples))]) == [pytest.approx(0.4)]


def test_who_finds_its_answer_surely_true_is_not_unsure(methods):
    told = [
        answered("fox", sample("fox"), asides={"p_true": p, "mutual_information": 1 - p}) for p in (1.0, 0.2)
    ]
    assert methods["p_true"].estimate(told) == [0, pytest.approx(0.8)]
    assert methods["mutual_information"].estimate(told) == [0, pytest.approx(0.8)]


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (answered("fox", sample("fox"), asides={"p_true": nan}), "'Who\\?' is nan"),
        (answered("fox", sample("fox")), "'Who\\?' was not requested"),
        (answered("fox", asides={"p_true": 0.5}), "'Who\\?', but none were drawn"),
    ],
)
def test_what_is_no_number_is_an_error_that_names_the_method_and_the_question(methods, one, words):
    with pytest.raises(ScoringError, match=rf"P\(True\).*{words}"):
        methods["p_true"].estimate([one])
