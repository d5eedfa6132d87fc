import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from guardrail.errors import CalibrationError, OptionError, ScoringError
from guardrail.evaluation.compare import Estimated, compare, estimate_all, matched_auroc, selective_accuracy
from guardrail.evaluation.methods import Method
from tests.support.evaluated import record


def method(name, values):
    return Method(name, name.title(), "a paper", lambda answers: values[: len(answers)])


def answers(count, seed=0, questions=None):
    """Answers, and a score that tells something of them."""
    generator = np.random.default_rng(seed)
    right = generator.random(count) < 0.4
    scores = generator.normal(size=count) - right
    texts = questions or [f"Question {at}?" for at in range(count)]
    records = [record(bool(flag), digest=str(at), question=texts[at]) for at, flag in enumerate(right)]
    return records, scores.tolist(), right


def estimated(name, values):
    return Estimated(method(name, values), values, 0.0, 0)


def test_figures_are_those_of_scikit_learn():
    records, scores, right = answers(120)
    (one,) = compare([estimated("one", scores)], records).methods
    assert one.figures["auroc"].value == pytest.approx(roc_auc_score(~right, scores))
    assert one.figures["auprc"].value == pytest.approx(average_precision_score(~right, scores))
    assert all(figure.n == 120 for figure in one.figures.values())


def test_a_method_differs_from_itself_by_nothing_and_the_interval_says_so():
    records, scores, _ = answers(60)
    comparison = compare([estimated("hybridgrad", scores), estimated("same", [*scores])], records)
    for figure in comparison.methods[1].differences.values():
        assert (figure.value, figure.low, figure.high) == (0, 0, 0)


def test_paired_intervals_are_narrower_than_apart_ones_where_methods_agree():
    records, scores, _ = answers(150)
    near = (np.array(scores) + 0.1 * np.random.default_rng(1).normal(size=150)).tolist()
    comparison = compare([estimated("one", scores), estimated("near", near)], records)
    paired = comparison.methods[1].differences["auroc"]
    alone = comparison.methods[1].figures["auroc"]
    assert paired.low <= 0 <= paired.high
    assert paired.high - paired.low < 0.4 * (alone.high - alone.low)


def test_several_answers_to_one_question_are_one_piece_of_evidence():
    texts = [f"Question {at // 6}?" for at in range(120)]
    records, scores, right = answers(20)
    copies = [record(bool(right[at // 6]), question=texts[at]) for at in range(120)]
    comparison = compare([estimated("one", [scores[at // 6] for at in range(120)])], copies)
    single = compare([estimated("one", scores)], records)
    wide, honest = (one.methods[0].figures["auroc"] for one in (comparison, single))
    assert (comparison.questions, len(comparison.correct)) == (20, 120)
    assert wide.value == pytest.approx(honest.value)
    assert (wide.low, wide.high) == pytest.approx((honest.low, honest.high), abs=1e-9)


def test_answers_without_a_label_do_not_count():
    records, scores, _ = answers(40)
    unlabelled = [*records, record(None, question="Who knows?")]
    with_it = compare([estimated("one", [*scores, 99.0])], unlabelled)
    without = compare([estimated("one", scores)], records)
    assert with_it.as_plain() == without.as_plain()
    with pytest.raises(CalibrationError, match="No answer has a label"):
        compare([estimated("one", [1.0])], unlabelled[-1:])


def test_a_reference_that_is_not_there_is_refused():
    records, scores, _ = answers(10)
    with pytest.raises(OptionError, match="'hybridgard' is not among the methods; did you mean"):
        compare([estimated("hybridgrad", scores)], records, reference="hybridgard")


def test_one_kind_of_answers_alone_has_no_auroc_and_says_why():
    records = [record(True, question=f"{at}?") for at in range(5)]
    (one,) = compare([estimated("one", [1.0, 2, 3, 4, 5])], records).methods
    assert one.figures["auroc"].reason == "all 5 answers are right, so there is nothing to tell apart"
    assert one.figures["accuracy_at_70"].value == 1
    assert one.matched.pairs == 0


def test_accuracy_at_a_coverage_is_that_of_the_surest():
    confidence, right = np.arange(10.0), np.array([0, 0, 0, 1, 1, 0, 1, 1, 1, 1])
    assert selective_accuracy(0.7)(confidence, right) == pytest.approx(6 / 7)
    assert selective_accuracy(0.9)(confidence, right) == pytest.approx(6 / 9)


def test_length_apart_a_score_of_length_tells_nothing_and_another_still_does():
    generator = np.random.default_rng(3)
    right = generator.random(400) < 0.5
    lengths = np.where(right, generator.integers(4, 30, 400), generator.integers(10, 60, 400))
    real = generator.normal(size=400) + right
    by_length = matched_auroc(-lengths, right, lengths)
    assert roc_auc_score(right, -lengths) > 0.75
    assert by_length.auroc.value < 0.6
    assert matched_auroc(real, right, lengths).auroc.value == pytest.approx(
        roc_auc_score(right, real), abs=0.05
    )


def test_matched_pairs_are_those_within_a_quarter_of_the_length():
    matched = matched_auroc([3, 2, 2, 1], [True, False, False, True], [4, 5, 6, 100])
    assert (matched.pairs, matched.auroc.n, matched.auroc.value) == (1, 2, 1)
    assert matched_auroc([3, 2], [True, False], [4, 6]).auroc.reason


def test_what_is_not_a_number_is_refused_with_the_method_and_the_question():
    with pytest.raises(ScoringError, match=r"broken does not give a number for 'Why\?'"):
        estimate_all([method("broken", [float("nan")])], [record(True)])
    with pytest.raises(ScoringError, match="as many numbers as answers"):
        estimate_all([method("short", [1.0])], [record(True), record(False)])
