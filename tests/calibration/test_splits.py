"""Three parts without a group in common, each group's for ever."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from guardrail.calibration.options import Shares
from guardrail.calibration.splits import draw, group_numbers, part_of, question_groups, split
from guardrail.errors import CalibrationError
from guardrail.labelling.answers import LabelledAnswer
from guardrail.scoring.uncertainty import Observation

SHARES = Shares()
NOTHING_SEEN = Observation({})


def _answers(right, wrong, name="Question"):
    return [
        LabelledAnswer(NOTHING_SEEN, at < right, f"{name} {at}?", f"Answer {at}.")
        for at in range(right + wrong)
    ]


def _key(answer):
    return answer.group, answer.question, answer.response


def _placed(answers, seed=0):
    parts = split(answers, SHARES, seed)
    return {_key(answers[at]): name for name, part in parts._asdict().items() for at in part}


@pytest.mark.parametrize(("right", "wrong"), [(60, 60), (300, 101), (1200, 2800)])
@pytest.mark.parametrize("seed", range(3))
def test_the_parts_hold_every_answer_once_in_about_the_shares_asked_for(right, wrong, seed):
    answers = _answers(right, wrong)
    parts = split(answers, SHARES, seed)
    assert sorted(np.concatenate(parts)) == list(range(len(answers)))
    for part, share in zip(parts, SHARES, strict=True):
        least, most = binom.ppf([1e-4, 1 - 1e-4], len(answers), share)
        assert least <= len(part) <= most


ADDED = st.lists(
    st.tuples(st.booleans(), st.sampled_from(["", "a", "b"]), st.text(max_size=8), st.text(max_size=4)),
    max_size=40,
)


@given(added=ADDED, order=st.randoms(use_true_random=False))
def test_labels_that_are_added_move_no_answer_to_another_part(added, order):
    answers = _answers(80, 80)
    before = _placed(answers)
    more = [
        LabelledAnswer(NOTHING_SEEN, right, asked, said, group=group) for right, group, asked, said in added
    ]
    both = [*answers, *more]
    order.shuffle(both)
    after = _placed(both)
    # Another answer to the same question may count in its place; the question stays in its part.
    assert {key: after[key] for key in before if key in after} == {
        key: part for key, part in before.items() if key in after
    }
    gone = {key[1] for key in before.keys() - after.keys()}
    assert gone <= {asked for _, _, asked, _ in added}


def test_one_more_label_changes_nothing_else():
    answers = _answers(150, 150)
    before = _placed(answers, seed=7)
    one_more = LabelledAnswer(NOTHING_SEEN, True, "One more?", "Yes.")
    after = _placed([one_more, *answers], seed=7)
    assert {key: part for key, part in after.items() if key != _key(one_more)} == before


def test_another_answer_to_a_question_is_in_the_same_part_whatever_its_label():
    answers = _answers(100, 100)
    others = [replace(one, response="Another.", correct=not one.correct) for one in answers]
    assert part_names(answers) == part_names(others)


def part_names(answers):
    return {key[1]: part for key, part in _placed(answers).items()}


def test_no_label_has_a_say_in_the_parts():
    answers = _answers(150, 150)
    turned = [replace(one, correct=not one.correct) for one in answers]
    for part, other in zip(split(answers, SHARES, 3), split(turned, SHARES, 3), strict=True):
        assert np.array_equal(part, other)


def test_the_seed_draws_the_parts():
    first, again, other = (split(_answers(100, 100), SHARES, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(*same) for same in zip(first, again, strict=True))
    assert not np.array_equal(first.fit, other.fit)


@given(st.text(max_size=20), st.integers(0, 2**70))
def test_every_name_has_a_part(name, seed):
    assert part_of(name, SHARES, seed) in (0, 1, 2)


def test_parts_are_drawn_as_if_by_chance():
    drawn = [part_of(f"question\n{at}", SHARES, seed) for at in range(400) for seed in range(50)]
    for part, share in enumerate(SHARES):
        least, most = binom.ppf([1e-5, 1 - 1e-5], len(drawn), share)
        assert least <= drawn.count(part) <= most
    # Whoever is in a part by one seed is not more often in it by the next.
    both = sum(a == b == 0 for a, b in pairwise(drawn))
    least, most = binom.ppf([1e-5, 1 - 1e-5], len(drawn) - 1, SHARES.fit**2)
    assert least <= both <= most


@pytest.mark.parametrize("seed", range(5))
def test_a_question_asked_again_is_in_one_part_and_counts_once_where_it_is_judged(seed):
    random = np.random.default_rng(seed)
    asked = random.permutation([*range(120), *random.integers(0, 120, 300)]).tolist()
    # The same but for case and spaces.
    answers = [
        LabelledAnswer(
            NOTHING_SEEN,
            bool(random.random() < 0.5),
            f"question {'  ' * (at % 3)}{one}".title() if at % 2 else f" question {one}",
            f"{at}",
        )
        for at, one in enumerate(asked)
    ]
    parts = split(answers, SHARES, seed)
    of_part = [{asked[at] for at in part} for part in parts]
    assert sum(map(len, of_part)) == len(set.union(*of_part)) == 120
    assert len(of_part[1]) == len(parts.certify)
    assert len(of_part[2]) == len(parts.report)
    assert len(parts.fit) == sum(one in of_part[0] for one in asked)


def test_which_answer_of_a_group_counts_does_not_hang_on_the_order():
    answers = [
        LabelledAnswer(NOTHING_SEEN, at % 2 == 0, f"Question {at % 150}?", f"Answer {at}.")
        for at in range(450)
    ]
    assert _placed(answers) == _placed(answers[::-1])


def test_the_lines_of_a_conversation_stay_together():
    answers = [replace(one, group=f"talk {at // 3}") for at, one in enumerate(_answers(300, 300))]
    parts = split(answers, SHARES, seed=2)
    of_part = [{answers[at].group for at in part} for part in parts]
    assert sum(map(len, of_part)) == len(set.union(*of_part)) == 200
    assert len(parts.fit) == 3 * len(of_part[0])
    assert (len(parts.certify), len(parts.report)) == (len(of_part[1]), len(of_part[2]))


def test_a_group_is_told_from_a_question_of_its_name():
    named, asked = (
        LabelledAnswer(NOTHING_SEEN, True, "Why?", group="a"),
        LabelledAnswer(NOTHING_SEEN, True, "a"),
    )
    assert len(set(group_numbers([named, asked, replace(named, question="How?")]))) == 2


def test_answers_without_a_question_are_like_no_other():
    assert question_groups(["", " ", "a", "A ", "b"]).tolist() == [0, 1, 2, 2, 4]
    nameless = [LabelledAnswer(Observation({"hybridgrad": at}), True) for at in (0.1, 0.2, 0.2)]
    assert group_numbers(nameless).tolist() == [0, 1, 1]


def test_folds_leave_no_class_out_of_the_others():
    correct = np.array([True] * 5 + [False] * 60)
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
        (7, 193, "7 of 200 questions have a correct answer, . of them .* at least 8 .* about 858 questions"),
        (396, 4, "4 of 400 questions have a wrong answer, . of them .* at least 8 .* about 3000 questions"),
    ],
)
def test_too_few_answers_say_how_many_are_needed(right, wrong, said):
    with pytest.raises(CalibrationError, match=said):
        split(_answers(right, wrong), SHARES, seed=0)


def test_a_part_that_came_out_too_small_says_so():
    # By this seed few questions fall into the part to report.
    scarce = [at for at in range(1000) if part_of(f"question\nquestion {at}?", SHARES, 0) != 2][:110]
    answers = [LabelledAnswer(NOTHING_SEEN, at % 2 == 0, f"Question {at}?") for at in scarce]
    with pytest.raises(CalibrationError, match=r"0 fell into the part to report .* about 28"):
        split(answers, SHARES, seed=0)


def test_the_same_question_over_and_over_is_one_question():
    with pytest.raises(CalibrationError, match="1 answered questions are too few"):
        split([replace(one, question="Why?") for one in _answers(200, 200)], SHARES, seed=0)


def test_other_shares_need_other_numbers():
    with pytest.raises(CalibrationError, match="at least 200 are needed"):
        split(_answers(75, 75), Shares(0.7, 0.2, 0.1), seed=0)
