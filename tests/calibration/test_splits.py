"""Three parts without a question in common, drawn by chance alone."""

import numpy as np
import pytest

from guardrail.calibration.options import Shares
from guardrail.calibration.splits import draw, question_groups, split
from guardrail.errors import CalibrationError

SHARES = Shares()


def _questions(count):
    return [f"Question {at}?" for at in range(count)]


def _labels(right, wrong):
    return [True] * right + [False] * wrong


@pytest.mark.parametrize(("right", "wrong"), [(60, 60), (300, 101), (30, 370)])
def test_the_parts_hold_every_answer_once_in_the_shares_asked_for(right, wrong):
    correct = _labels(right, wrong)
    parts = split(_questions(len(correct)), correct, SHARES, seed=0)
    assert sorted(np.concatenate(parts)) == list(range(len(correct)))
    for part, share in zip(parts, SHARES, strict=True):
        assert len(part) == pytest.approx(share * len(correct), abs=2)
    rights = [np.array(correct)[part].mean() for part in (parts.fit, parts.report)]
    assert rights[0] == pytest.approx(rights[1], abs=0.03)


def test_the_part_that_certifies_does_not_depend_on_the_labels():
    questions = _questions(300)
    for labels in (_labels(150, 150), _labels(150, 150)[::-1], _labels(280, 20)):
        certify = split(questions, labels, SHARES, seed=3).certify
        assert np.array_equal(certify, split(questions, _labels(150, 150), SHARES, seed=3).certify)


def test_the_seed_draws_the_parts():
    drawn = [split(_questions(200), _labels(100, 100), SHARES, seed) for seed in (0, 0, 1)]
    assert all(np.array_equal(*same) for same in zip(*drawn[:2], strict=True))
    assert not np.array_equal(drawn[0].fit, drawn[2].fit)


def test_each_answer_is_as_likely_as_any_other_to_be_in_a_part():
    correct = _labels(70, 50)
    counts = np.zeros((3, 120))
    for seed in range(400):
        for at, part in enumerate(split(_questions(120), correct, SHARES, seed)):
            counts[at, part] += 1
    expected = 400 * np.array(SHARES)[:, None]
    # Five standard deviations of a binomial, for 360 counts.
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected * (1 - expected / 400))).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_question_asked_again_is_in_one_part_and_counts_once_where_it_is_judged(seed):
    random = np.random.default_rng(seed)
    asked = random.permutation([*range(120), *random.integers(0, 120, 300)]).tolist()
    correct = random.random(420) < 0.5
    # The same but for case and spaces.
    questions = [f"question {'  ' * (at % 3)}{one}".title() if at % 2 else f" question {one}"
                 for at, one in enumerate(asked)]  # fmt: skip
    parts = split(questions, correct, SHARES, seed)
    of_part = [{asked[at] for at in part} for part in parts]
    assert sum(map(len, of_part)) == len(set.union(*of_part)) == 120
    assert len(of_part[1]) == len(parts.certify)
    assert len(of_part[2]) == len(parts.report)
    assert len(parts.fit) == sum(one in of_part[0] for one in asked)


def test_answers_without_a_question_are_like_no_other():
    assert question_groups(["", " ", "a", "A ", "b"]).tolist() == [0, 1, 2, 2, 4]


def test_folds_leave_no_class_out_of_the_others():
    correct = np.array(_labels(5, 60))
    fold = draw(np.arange(65), correct, [1] * 8, np.random.default_rng(0))
    assert len(set(fold[correct])) == 5
    assert sorted(np.bincount(fold))[0] >= 7


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        (0, 0, "0 answered questions are too few .* at least 100 are needed"),
        (50, 49, "99 answered questions are too few .* at least 100 are needed"),
        (1, 1, "at least 100 are needed"),
        (300, 0, "All 300 answers were judged correct: nothing can be learned about wrong ones"),
        (0, 300, "All 300 answers were judged wrong: nothing can be learned about correct ones"),
        (12, 188, "12 of 200 questions have a correct answer, but at least 20 .* about 334 questions"),
        (396, 4, "4 of 400 questions have a wrong answer, but at least 20 .* about 2000 questions"),
    ],
)
def test_too_few_answers_say_how_many_are_needed(right, wrong, said):
    with pytest.raises(CalibrationError, match=said):
        split(_questions(right + wrong), _labels(right, wrong), SHARES, seed=0)


def test_the_same_question_over_and_over_is_one_question():
    with pytest.raises(CalibrationError, match="1 answered questions are too few"):
        split(["Why?"] * 400, _labels(200, 200), SHARES, seed=0)


def test_other_shares_need_other_numbers():
    with pytest.raises(CalibrationError, match="at least 200 are needed"):
        split(_questions(150), _labels(75, 75), Shares(0.7, 0.2, 0.1), seed=0)
