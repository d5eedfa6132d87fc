"""Live traffic is watched, and an alarm means something."""

import json
from collections.abc import Callable
from threading import Thread
from typing import Any

import numpy as np
import pytest
from mapie.exchangeability_testing import RiskMonitoring
from scipy.stats import binom

from guardrail.calibration import martingales as evidence
from guardrail.calibration.calibrators import ReferenceDistribution
from guardrail.calibration.martingales import ErrorEProcess, ShiftEProcess, Wager
from guardrail.calibration.monitor import Monitor
from guardrail.calibration.profile import CertifiedThreshold, Guarantee, Profile
from guardrail.errors import CalibrationError, OptionError, ProfileError
from tests.support.profiles import FEASIBLE, a_profile, an_observation

REFERENCE = tuple(np.sort(np.random.default_rng(99).normal(size=300)).tolist())
ERROR = FEASIBLE.max_error
THRESHOLD = FEASIBLE.threshold


def watched(certified: tuple[CertifiedThreshold, ...] = (FEASIBLE,)) -> Profile:
    reference = ReferenceDistribution(n=300, values=REFERENCE)
    return a_profile(reference={"confidence_score": reference, "hybridgrad": reference}, certified=certified)


def scores(value: float) -> dict[str, float]:
    return {"confidence_score": value, "hybridgrad": 0.5 * value}


def alarm_at(evidence: ShiftEProcess, values: np.ndarray, limit: float) -> int | None:
    """Number of values after which the alarm is raised."""
    for n, value in enumerate(values.tolist(), 1):
        evidence.add(value)
        if evidence.highest >= limit:
            return n
    return None


def test_unchanged_traffic_raises_no_more_alarms_than_stated() -> None:
    """Streams of 400, each with a reference of its own, at a rate of 5 %, looked at after every answer."""
    rng = np.random.default_rng(0)
    alarms = sum(
        alarm_at(ShiftEProcess(sorted(rng.normal(size=100).tolist()), str(i)), rng.normal(size=400), 20)
        is not None
        for i in range(120)
    )
    assert alarms <= binom.isf(1e-4, 120, 0.05)


@pytest.mark.slow
@pytest.mark.untraced
@pytest.mark.parametrize("ties", [False, True])
def test_long_unchanged_streams_raise_no_more_alarms_than_stated(ties: bool) -> None:
    rng = np.random.default_rng(1)
    alarms = 0
    for i in range(300):
        reference, values = rng.normal(size=60), rng.normal(size=4000)
        if ties:
            reference, values = np.round(reference), np.round(values)
        alarms += alarm_at(ShiftEProcess(sorted(reference.tolist()), str(i)), values, 10) is not None
    assert alarms <= binom.isf(1e-4, 300, 0.1)


def test_a_new_epoch_begins_with_the_reference_alone_and_keeps_the_alarm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(evidence, "EPOCH", 100)
    watching = ShiftEProcess(REFERENCE, "")
    assert alarm_at(watching, np.random.default_rng(0).normal(3, 1, size=100), 20)
    highest = watching.highest
    rest = 250 - watching.n
    alarm_at(watching, np.random.default_rng(0).normal(size=rest), np.inf)
    assert (watching.epoch, len(watching.seen), watching.n) == (3, 50, 250)
    assert watching.highest >= highest
    assert watching.wager.value < 2


@pytest.mark.parametrize(
    ("centre", "spread", "within"), [(1, 1, 150), (-1, 1, 150), (0, 2, 300), (0, 0.5, 300)]
)
@pytest.mark.parametrize("before", [0, 1000])
def test_a_shift_is_found_within_a_few_hundred_answers(
    centre: float, spread: float, within: int, before: int
) -> None:
    """Of a standard deviation within 150, of the spread by a factor of two within 300; early or late."""
    rng = np.random.default_rng(4)
    for seed in range(3):
        watching = ShiftEProcess(sorted(rng.normal(size=300).tolist()), str(seed))
        values = np.concatenate([rng.normal(size=before), rng.normal(centre, spread, size=within)])
        found = alarm_at(watching, values, 300)
        assert found is not None
        assert found > before


def test_errors_as_promised_raise_no_more_alarms_than_stated() -> None:
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(150):
        watching = ErrorEProcess(ERROR)
        for wrong in (rng.random(300) < ERROR).tolist():
            watching.add(correct=not wrong)
        alarms += watching.highest >= 10
    assert alarms <= binom.isf(1e-4, 150, 0.1)


@pytest.mark.parametrize(("rate", "within"), [(0.2, 800), (0.3, 200), (1.0, 20)])
def test_more_errors_than_promised_are_found(rate: float, within: int) -> None:
    rng = np.random.default_rng(3)
    for _ in range(10):
        monitor = watched().monitor()
        for wrong in rng.random(within) < rate:
            status = monitor.outcome(THRESHOLD, correct=not wrong)
        assert status.drifted
        assert status.signal == str(FEASIBLE.guarantee)
        assert "no longer holds" in status.reason


def test_it_is_found_no_later_than_by_mapie() -> None:
    wrong = np.random.default_rng(5).random(600) < 0.3
    watching = ErrorEProcess(ERROR)
    found = 0
    while watching.highest < 100:
        watching.add(correct=not wrong[found])
        found += 1
    theirs = RiskMonitoring(risk="accuracy", test_level=0.02, threshold=ERROR, warn=False)
    theirs.update(np.ones(found, int), 1 - wrong[:found].astype(int))
    assert not theirs.harmful_shift_detected
    theirs.update(np.ones(600 - found, int), 1 - wrong[found:].astype(int))
    assert theirs.harmful_shift_detected


def test_an_alarm_stays() -> None:
    monitor = watched().monitor()
    for _ in range(40):
        monitor.outcome(THRESHOLD, correct=False)
    for _ in range(500):
        status = monitor.outcome(THRESHOLD, correct=True)
    assert status.drifted


def test_answers_that_were_not_let_through_say_nothing_of_the_guarantee() -> None:
    monitor = watched().monitor()
    for _ in range(200):
        status = monitor.outcome(THRESHOLD - 0.01, correct=False)
    assert not status.drifted
    assert status.n == 0


def test_an_infeasible_guarantee_is_not_watched() -> None:
    refused = CertifiedThreshold(
        max_error=0.05, confidence=0.95, threshold=None, n=40, accepted=0, errors=0, needed=59, reason="few"
    )
    assert watched((refused,)).monitor().status().limit == 2 / 0.01
    assert watched((refused, FEASIBLE)).monitor().status().limit == 3 / 0.01


def test_the_promise_of_a_kind_is_not_taken_for_that_of_all() -> None:
    laxer = FEASIBLE.model_copy(update={"kind": "sum", "threshold": THRESHOLD - 1})
    monitor = watched((FEASIBLE, laxer)).monitor()
    assert monitor.status().limit == 3 / 0.01
    for _ in range(200):
        status = monitor.outcome(THRESHOLD - 0.01, correct=False)
    assert not status.drifted


def test_live_traffic_is_taken_as_it_comes() -> None:
    profile = watched()
    monitor = profile.monitor()
    observation = an_observation()
    monitor.observe(observation)
    monitor.observe(profile.assess(observation))
    monitor.observe(scores(0.3))
    state = monitor.as_plain()["shifts"]
    assert (state["confidence_score"]["n"], state["hybridgrad"]["n"]) == (3, 2)
    score = profile.assess(observation).confidence_score
    assert state["confidence_score"]["seen"].count(score) == 2


def test_a_shifted_stream_raises_and_says_what_to_do() -> None:
    monitor = watched().monitor()
    assert not monitor.status().drifted
    rng = np.random.default_rng(8)
    for value in rng.normal(1.5, 1, size=150):
        status = monitor.observe({"confidence_score": value, "hybridgrad": rng.normal()})
    assert status.drifted
    assert status.signal == "confidence_score"
    assert status.e_value >= status.limit
    assert status.p_value <= 0.01
    assert "calibrate again" in status.reason


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_is_refused_and_leaves_no_trace(value: float) -> None:
    monitor = watched().monitor()
    with pytest.raises(CalibrationError, match="hybridgrad"):
        monitor.observe({"confidence_score": 0.5, "hybridgrad": value})
    with pytest.raises(CalibrationError, match="confidence score"):
        monitor.outcome(value, correct=True)
    assert monitor.as_plain() == watched().monitor().as_plain()


def test_a_missing_score_is_refused() -> None:
    with pytest.raises(CalibrationError, match="watches hybridgrad"):
        watched().monitor().observe({"confidence_score": 0.5})


@pytest.mark.parametrize("false_alarms", [0, 1, -0.5, float("nan")])
def test_a_rate_of_false_alarms_that_is_none_is_refused(false_alarms: float) -> None:
    with pytest.raises(OptionError, match="false_alarms"):
        watched().monitor(false_alarms=false_alarms)


def test_a_restart_forgets_nothing() -> None:
    profile = watched()
    rng = np.random.default_rng(6)
    whole, halved = profile.monitor(false_alarms=0.05), profile.monitor(false_alarms=0.05)
    for i, value in enumerate(rng.normal(0.4, 1, size=80)):
        if i == 40:
            halved = Monitor.from_plain(profile, json.loads(json.dumps(halved.as_plain(), allow_nan=False)))
        for monitor in (whole, halved):
            monitor.observe(scores(value))
            monitor.outcome(value + 1.5, correct=i % 3 > 0)
    assert halved.as_plain() == whole.as_plain()
    assert halved.status() == whole.status()


def test_the_state_of_another_profile_is_refused() -> None:
    state = watched().monitor().as_plain()
    with pytest.raises(ProfileError, match="another profile"):
        Monitor.from_plain(watched(()), state)


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.clear(),
        lambda state: state["errors"].clear(),
        lambda state: state["shifts"].clear(),
        lambda state: state["shifts"]["hybridgrad"].update(capital=[float("nan")] * 4),
        lambda state: state["shifts"]["hybridgrad"].update(capital=[1.0]),
        lambda state: state["shifts"]["hybridgrad"].update(seen=[float("nan")], n=1),
        lambda state: state["shifts"]["hybridgrad"].update(seen=3),
        lambda state: state["errors"][0].update(errors=5),
        lambda state: state["errors"][0].update(highest="much"),
        lambda state: state.update(false_alarms=2),
    ],
)
def test_a_damaged_state_is_refused(damage: Callable[[dict[str, Any]], None]) -> None:
    state = json.loads(json.dumps(watched().monitor().as_plain()))
    damage(state)
    with pytest.raises((ProfileError, OptionError)):
        Monitor.from_plain(watched(), state)


def test_threads_lose_no_answer() -> None:
    monitor = watched().monitor()
    threads = [
        Thread(target=lambda: [monitor.observe(scores(i / 100)) for i in range(100)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert monitor.status().n == 400


def test_a_profile_without_reference_or_guarantee_has_nothing_to_watch() -> None:
    monitor = a_profile(reference={}, certified=()).monitor()
    status = monitor.observe({})
    assert not status.drifted
    assert status.signal is None
    assert "nothing to watch" in status.reason


def test_the_capital_of_a_wager_is_kept_where_nothing_is_won() -> None:
    wager = Wager([0.0, 0.0])
    for _ in range(1000):
        wager.play([1.0, 1.0])
    assert wager.value == pytest.approx(1)


def test_an_alarm_for_the_guarantee_is_named_before_one_for_a_score() -> None:
    monitor = watched().monitor()
    for _ in range(200):
        monitor.observe(scores(5.0))
    for _ in range(20):
        monitor.outcome(THRESHOLD, correct=False)
    assert monitor.status().signal == str(Guarantee(ERROR, FEASIBLE.confidence))
