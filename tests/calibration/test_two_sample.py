"""The betting test: fair without a change, quick with one, and the same after a restart."""

import json

import numpy as np
import pytest
from scipy.stats import binom

from guardrail.calibration import two_sample
from guardrail.calibration.two_sample import CLASSIFIERS, EVERY, TwoSampleTest, factors, logistic

WIDTH = 16


def states(count, seed, shift=0.0, width=WIDTH):
    """Correlated states of mean square 1, as those of a profile; ``shift`` in standard deviations."""
    drawn = np.random.default_rng(seed).standard_normal((count, width)) / np.sqrt(width)
    drawn[:, 1] = 0.6 * drawn[:, 0] + 0.8 * drawn[:, 1]
    drawn[:, :4] += shift / np.sqrt(width)
    return drawn


def run(test, traffic):
    for state in traffic:
        test.add(state)
    return test


def alarm_in(test, traffic, limit=100.0):
    """After how many answers there is an alarm; None if there is none."""
    for at, state in enumerate(traffic, 1):
        test.add(state)
        if test.highest >= limit:
            return at
    return None


def test_a_bet_and_its_mirror_image_add_up_to_nothing():
    weights = np.random.default_rng(0).standard_normal((2, WIDTH)) * 9
    for one, other in zip(states(50, 1), states(50, 2), strict=True):
        both = factors(weights, one, other), factors(weights, other, one)
        assert sum(both) == pytest.approx(2)
        assert min(map(min, both)) > 0.19


def test_the_mean_of_a_bet_is_one_whatever_was_learned():
    weights = np.array([logistic(states(40, 1), states(40, 2, shift=2), one.ridge) for one in CLASSIFIERS])
    bets = np.array(
        [factors(weights, *pair) for pair in zip(states(20_000, 3), states(20_000, 4), strict=True)]
    )
    assert (bets.std(axis=0) > 0.1).all()
    assert np.abs(bets.mean(axis=0) - 1).max() < 4 * bets.std(axis=0).max() / np.sqrt(len(bets))


def test_no_classifier_and_no_earlier_bet_of_its_epoch_knows_a_fresh_state(monkeypatch):
    reference, known, fresh, epochs = states(60, 1), [], [], []

    def learned(rows, traffic, ridge):
        known.append({*map(tuple, rows)})
        return logistic(rows, traffic, ridge)

    def bet(weights, state, one):
        epoch, bets = test._place()
        if epochs[-1:] != [epoch]:
            epochs.append(epoch)
            fresh.clear()
        # The classifiers of this epoch alone are in use.
        assert all(tuple(one) not in rows for rows in known[-len(CLASSIFIERS) :])
        assert tuple(one) not in fresh
        assert bets == len(fresh)
        fresh.append(tuple(one))
        return factors(weights, state, one)

    monkeypatch.setattr(two_sample, "logistic", learned)
    monkeypatch.setattr(two_sample, "factors", bet)
    test = TwoSampleTest(reference, "seed")
    run(test, states(EVERY + 3 * test.length, 2))
    assert epochs == [1, 2, 3]
    assert len(fresh) == test.length == 40


def test_an_epoch_starts_from_other_states_and_with_new_capital():
    test = TwoSampleTest(states(60, 1), "seed")
    run(test, states(EVERY + test.length - 1, 2, shift=1.5))
    last = test._order(1).tolist()
    assert test.capital.max() > 1
    run(test, states(1, 3))
    assert test.capital.tolist() == [0.5, 0.5]
    assert test._order(2).tolist() != last
    assert sorted(test._order(2)) == list(range(60))


def alarms_of(streams, answers, width):
    """How many of many streams without a change, each with a profile of its own, ever raise an alarm."""
    many = [states(60 + answers, seed, width=width) for seed in range(streams)]
    test = run(
        TwoSampleTest(np.stack([one[:60] for one in many]), "seed"),
        np.moveaxis(np.stack([one[60:] for one in many]), 1, 0),
    )
    assert test.highest.shape == (streams,)
    return int((test.highest >= 100).sum())


def test_streams_side_by_side_are_as_they_are_one_by_one():
    several = np.stack([states(60, seed) for seed in range(3)])
    traffic = np.stack([states(120, 10 + seed, shift=seed) for seed in range(3)])
    together = run(TwoSampleTest(several, "seed"), np.moveaxis(traffic, 1, 0))
    alone = [
        float(run(TwoSampleTest(one, "seed"), seen).highest)
        for one, seen in zip(several, traffic, strict=True)
    ]
    assert together.highest.tolist() == pytest.approx(alone)
    assert alone[2] > 100 > alone[0]


def test_streams_without_a_change_raise_an_alarm_in_at_most_their_share():
    assert alarms_of(200, 150, width=4) <= binom.ppf(0.99, 200, 0.01)


@pytest.mark.parametrize("before", [0, 200])
def test_a_change_is_found_at_first_and_many_epochs_later(before):
    found = []
    for seed in range(10):
        test = run(TwoSampleTest(states(90, seed), str(seed)), states(before, 100 + seed))
        assert test.highest < 100
        found.append(alarm_in(test, states(100, 200 + seed, shift=1.5)))
    assert None not in found
    assert np.median(found) < 50


@pytest.mark.parametrize("seen", [0, 9, 10, 57, 50 + 40, 237])
def test_after_a_restart_it_goes_on_identically(seen):
    reference = states(60, 1)
    test = run(TwoSampleTest(reference, "seed"), rounded(states(seen, 2)))
    kept = json.loads(json.dumps(test.as_plain()))
    again = TwoSampleTest.from_plain(reference, "seed", kept)
    for one in (test, again):
        run(one, rounded(states(60, 3)))
    assert again.as_plain() == test.as_plain()
    assert again.n == seen + 60


def test_what_it_keeps_does_not_grow():
    test = run(TwoSampleTest(states(60, 1), "seed"), states(400, 2))
    assert len(test.seen) == 200
    assert len(json.dumps(test.as_plain())) < 12_000


@pytest.mark.parametrize(
    "change",
    [
        {"n": -1},
        {"n": 12.0},
        {"n": 300},
        {"n": True},
        {"highest": -1.0},
        {"highest": float("nan")},
        {"highest": "120"},
        {"capital": [0.5]},
        {"capital": [0.5, -0.1]},
        {"capital": [0.5, float("inf")]},
        {"weights": ""},
        {"weights": "AAAA"},
        {"seen": "AAAA"},
        {"seen": "not base 64!"},
        {"more": 1},
    ],
)
def test_corrupt_values_are_refused(change):
    reference = states(60, 1)
    kept = run(TwoSampleTest(reference, "seed"), states(12, 2)).as_plain()
    with pytest.raises(ValueError, match=r"."):
        TwoSampleTest.from_plain(reference, "seed", {**kept, **change})


def test_a_missing_value_and_another_width_are_refused():
    reference = states(60, 1)
    kept = run(TwoSampleTest(reference, "seed"), states(12, 2)).as_plain()
    for name in kept:
        with pytest.raises(ValueError, match=name):
            TwoSampleTest.from_plain(reference, "seed", {key: kept[key] for key in kept if key != name})
    with pytest.raises(ValueError, match="numbers after 12 answers"):
        TwoSampleTest.from_plain(states(60, 1, width=8), "seed", kept)


def rounded(values):
    return values.astype(np.float16).astype(np.float64)


@pytest.mark.slow
def test_of_a_thousand_streams_of_two_thousand_answers_at_most_their_share_raise_an_alarm():
    # A profile of 100 answers keeps 60 states: its fresh ones are used up fifty times.
    assert alarms_of(1_000, 2_000, width=8) <= binom.ppf(0.99, 1_000, 0.01)
