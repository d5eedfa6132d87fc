import numpy as np
import pytest

from guardrail.metrics.confidence_quality import auroc
from guardrail.metrics.intervals import draws, interval, resampled


def accuracy(confidence, correct):
    return np.asarray(correct, dtype=float).mean(-1)


def test_groups_are_drawn_whole():
    groups = np.array([7, 3, 7, 5, 3, 7])
    for drawn in draws(6, groups, resamples=50):
        for places in drawn:
            counts = np.bincount(places, minlength=6)
            assert all(len(set(counts[groups == group])) == 1 for group in (3, 5, 7))
            assert counts[[0, 1, 3]].sum() == 3


def test_groups_of_one_are_answers_drawn_as_without_groups():
    generator = np.random.default_rng(0)
    confidence, correct = generator.normal(size=50), generator.random(50) < 0.5
    alone = resampled(auroc, confidence, correct, resamples=20)
    assert resampled(auroc, confidence, correct, groups=np.arange(50), resamples=20) == pytest.approx(alone)


@pytest.mark.parametrize(("clustered", "least"), [(True, 0.88), (False, 0.0)])
def test_only_intervals_over_questions_cover_the_truth_where_answers_to_one_are_alike(clustered, least):
    generator = np.random.default_rng(1)
    covered = []
    for _ in range(200):
        # 40 questions, each answered 8 times: always right, or always wrong.
        correct = np.repeat(generator.random(40) < 0.5, 8)
        groups = np.repeat(np.arange(40), 8) if clustered else None
        low, high = interval(accuracy, np.zeros(320), correct, groups=groups, resamples=200)
        covered.append(low <= 0.5 <= high)
    share = np.mean(covered)
    assert share >= least
    assert clustered or share < 0.7
