"""lm-polygraph on our samples: literal cases, laws, and its own statistics of the same traces."""

from dataclasses import replace
from importlib.util import find_spec
from math import exp, log
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrail.evaluation.samples import _sample
from guardrail.evaluation.sampling_methods import check_available, sampled_methods
from tests.support.chat import tiny_chat_model
from tests.support.similarity import ByFirstWord, ByWords, answered, sample

pytestmark = pytest.mark.skipif(
    find_spec("lm_polygraph") is None, reason="lm-polygraph is not installed (extra evaluate)"
)

METHODS = sampled_methods(nli=ByFirstWord(), cross_encoder=ByWords())
ESTIMATED = [name for name, method in METHODS.items() if not method.asides]


def estimate(name, *some):
    return METHODS[name].estimate(some)


@pytest.fixture(scope="module")
def polygraph():
    check_available(METHODS["eigen_score"])
    import lm_polygraph.estimators
    import lm_polygraph.stat_calculators.cross_encoder_similarity
    import lm_polygraph.stat_calculators.semantic_classes

    return lm_polygraph


def test_semantic_entropy_of_three_classes():
    # Of probabilities 1/4 and 1/4 (one class), 1/4 and 1/8: the mean over samples of −log of their class's.
    some = [sample("fox", log(1 / 4)), sample("fox runs", log(1 / 8), log(2))]
    some += [sample("owl", log(1 / 4)), sample("hen", log(1 / 8))]
    expected = (2 * log(2) + log(4) + log(8)) / 4
    assert estimate("semantic_entropy", answered("fox", *some)) == [pytest.approx(expected)]


def test_predictive_entropy_is_that_of_every_wording():
    some = [sample("fox", log(1 / 4)), sample("fox runs", log(1 / 8), log(2)), sample("owl", log(1 / 2))]
    one = answered("fox", *some)
    assert estimate("predictive_entropy", one) == [pytest.approx((2 * log(4) + log(2)) / 3)]
    assert estimate("semantic_entropy", one) < estimate("predictive_entropy", one)


def test_eigen_score_of_samples_that_are_the_same_is_least():
    vector = np.array([1.0, -2.0, 3.0, 0.0])
    same = answered("a", *(sample("a", embedding=vector) for _ in range(3)))
    size = ((vector - vector.mean()) ** 2).sum()
    (least,) = estimate("eigen_score", same)
    assert least == pytest.approx((log(3 * size + 1e-3) + 2 * log(1e-3)) / 3)
    turned = answered("a", *(sample("a", embedding=np.roll(vector, at)) for at in range(3)))
    assert estimate("eigen_score", turned)[0] > least


def test_token_sar_weighs_tokens_by_what_is_lost_without_them():
    # Without one "red" the same words are there; without "fox" they are not.
    said = sample("red red fox", -1.0, -2.0, -4.0)
    assert estimate("token_sar", answered(said)) == [pytest.approx(4.0)]
    alone = sample("fox", -3.0)
    assert estimate("token_sar", answered(alone)) == [pytest.approx(3.0)]


def test_an_answer_without_tokens_that_matter_weighs_them_alike():
    nothing = replace(sample("", -2.0), token_texts=("<|im_end|>",))
    assert estimate("token_sar", answered(nothing)) == [pytest.approx(2.0)]


def test_semantic_density_is_the_share_of_probability_near_the_answer():
    one = answered(
        sample("fox", log(0.5)), sample("fox runs", log(0.25), log(0.25)), sample("owl", log(0.25))
    )
    assert estimate("semantic_density", one) == [pytest.approx(-0.75 / 1.0)]


@pytest.mark.parametrize("name", ESTIMATED)
def test_long_answers_of_little_probability_have_a_number_too(name):
    long = [sample(" ".join(["fox", *"abcdefgh"[:n]]), *[-400.0] * (n + 1)) for n in (6, 7, 8)]
    long = [replace(one, embedding=(1.0, float(at))) for at, one in enumerate(long)]
    (value,) = estimate(name, answered(long[0], *long))
    assert np.isfinite(value)


@settings(max_examples=20, deadline=None)
@given(st.floats(-500, -1))
def test_sentence_sar_of_samples_so_much_less_likely_is_so_much_larger(less):
    some = [sample("fox runs", -2.0, -1.0), sample("fox", -1.5), sample("owl", -3.0)]
    rarer = [replace(one, log_probabilities=(less, *one.log_probabilities)) for one in some]
    (before,), (after,) = (estimate("sentence_sar", answered("fox", *s)) for s in (some, rarer))
    assert after == pytest.approx(before - less)


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(5)))
def test_no_estimate_hangs_on_the_order_of_the_samples(order):
    some = [sample("fox runs", -2.0, -1.0), sample("fox", -1.5), sample("owl", -3.0)]
    some += [sample("owl", -3.0), sample("hen a b", -1.0, -0.5, -0.25)]
    some = [replace(one, embedding=(len(one.text), 1.0, at)) for at, one in enumerate(some)]
    for name in ESTIMATED:
        straight, turned = estimate(
            name, answered("fox runs", *some), answered("fox runs", *(some[at] for at in order))
        )
        assert turned == pytest.approx(straight), name


@pytest.fixture(scope="module")
def model():
    return tiny_chat_model()


@pytest.fixture(scope="module")
def traces(model):
    """For each of three questions, an answer and the samples, as the model read them."""
    said = {
        "Who is it?": ["red fox", "red fox", "grey owl", "fox", "red hen house"],
        "Where?": ["in a wood", "in a wood", "in a wood", "a", "by the sea"],
        "What does it eat?": ["mice", "it eats mice", "mice", "hens", "it eats what it finds"],
    }
    return {
        question: [model.read(question, text, depths=[0.5]) for text in texts]
        for question, texts in said.items()
    }


@pytest.fixture(scope="module")
def ours(traces):
    return [
        answered(_sample(first), *map(_sample, others), question=question)
        for question, (first, *others) in traces.items()
    ]


@pytest.fixture(scope="module")
def theirs(polygraph, traces, model):
    """lm-polygraph's statistics of the same traces, as its own calculators make them (ends left out)."""
    calculators = polygraph.stat_calculators
    by_words, by_first = ByWords(), ByFirstWord()
    some = list(traces.values())
    texts = [[one.text for one in samples] for _, *samples in some]
    stats = {
        "input_texts": list(traces),
        "sample_texts": texts,
        "sample_tokens": [[one.response_ids[:-1] for one in samples] for _, *samples in some],
        "sample_log_probs": [[sum(one.log_probabilities) for one in samples] for _, *samples in some],
        "sample_log_likelihoods": [[one.log_probabilities[:-1] for one in samples] for _, *samples in some],
        "sample_embeddings": [
            [one.hidden[2].last.double().numpy() for one in samples] for _, *samples in some
        ],
        "greedy_tokens": [first.response_ids for first, *_ in some],
        "greedy_log_likelihoods": [first.log_probabilities for first, *_ in some],
        "entailment_id": 2,
        "semantic_matrix_classes": np.array(
            [[[2 * int(*by_first.means_same("", [(a, b)])) for b in of] for a in of] for of in texts]
        ),
    }
    runner = SimpleNamespace(tokenizer=model.tokenizer, device=lambda: "cpu")
    encoder = SimpleNamespace(predict=lambda pairs, batch_size: np.array(by_words.similarities(pairs)))
    similarity = calculators.cross_encoder_similarity.CrossEncoderSimilarityMatrixCalculator()
    similarity.crossencoder, similarity.crossencoder_setup = encoder, True
    for calculator in (similarity, calculators.semantic_classes.SemanticClassesCalculator()):
        stats |= calculator(stats, list(traces), runner)
    return stats


@pytest.mark.parametrize(
    ("name", "estimator"),
    [
        ("predictive_entropy", "MonteCarloSequenceEntropy"),
        ("semantic_entropy", "SemanticEntropy"),
        ("token_sar", "TokenSAR"),
        ("sentence_sar", "SentenceSAR"),
        ("sar", "SAR"),
        ("eigen_score", "EigenScore"),
    ],
)
def test_the_same_traces_give_what_lm_polygraph_makes_of_them(polygraph, ours, theirs, name, estimator):
    expected = getattr(polygraph.estimators, estimator)()(theirs)
    assert METHODS[name].estimate(ours) == pytest.approx(list(expected), rel=1e-6)


def test_semantic_density_is_lm_polygraphs_with_the_end_of_turn_as_a_token(polygraph, traces, ours, theirs):
    by_first = ByFirstWord()
    distances = [
        np.array(by_first.distances("", [(first.text, one.text) for one in samples]))
        for first, *samples in traces.values()
    ]
    stats = theirs | {
        "sample_tokens": [[one.response_ids for one in samples] for _, *samples in traces.values()],
        "concat_greedy_semantic_matrix_contra_forward": distances,
        "concat_greedy_semantic_matrix_neutral_forward": [0 * one for one in distances],
    }
    expected = polygraph.estimators.SemanticDensity()(stats)
    assert METHODS["semantic_density"].estimate(ours) == pytest.approx(list(expected), rel=1e-6)
    assert all(-1 <= value <= -exp(-50) for value in expected)
