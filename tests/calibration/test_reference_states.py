"""States kept in a profile: what of an answer is kept, how large it is, and what is refused."""

import json
from base64 import b64encode

import numpy as np
import pytest
from pydantic import ValidationError

from guardrail.calibration.profile import read_profile, write_profile
from guardrail.calibration.reference_states import LEAST_STATES, MOST_STATES, ReferenceStates, _directions
from guardrail.errors import CalibrationError, ProfileError
from guardrail.scoring.uncertainty import HiddenState, Observation
from tests.support.profiles import MAKING, a_profile
from tests.support.states import SIZE, hidden_states, observations, profile_with_states, states_of


@pytest.mark.parametrize("size", [576, 4096])
def test_the_states_of_a_real_model_leave_a_profile_below_two_megabytes(tmp_path, size):
    states = states_of(MOST_STATES + 20, size=size)
    parts = {"fit": 400, "certify": 400, "report": 200}
    making = MAKING.model_copy(update={"answers": 1000, "parts": parts})
    certified = ()
    profile = a_profile(states=states, making=making, certified=certified)
    path = tmp_path / "profile.json"
    write_profile(profile, path)
    assert path.stat().st_size < 250_000
    assert states.n == MOST_STATES
    assert states.values.shape == (MOST_STATES, 128)
    assert read_profile(path) == profile


def test_projected_distances_are_those_of_the_standardised_states():
    states = states_of(100, size=576)
    scale = states._scaling[1]
    one, other = hidden_states(2, 5, size=576)
    apart = (np.array(one.mean) - np.array(other.mean)) / scale
    expected = (apart**2).sum() / 576
    assert ((states.projected(one) - states.projected(other)) ** 2).sum() == pytest.approx(expected, rel=0.4)
    assert (states.values**2).sum(axis=1).mean() == pytest.approx(1, rel=0.2)


def test_an_answer_of_the_traffic_is_kept_as_one_of_the_profile_is():
    kept = observations(60, 0)
    states = ReferenceStates.of(observations(40, 1), kept, seed=0)
    for row, answer in zip(states.values, kept, strict=True):
        assert row.tolist() == states.projected(answer.hidden).tolist()


def test_what_is_far_out_stays_finite():
    far = HiddenState(0.5, [3e38] * SIZE, [0.0] * SIZE)
    assert np.isfinite(states_of().projected(far)).all()


def test_directions_are_the_same_for_ever():
    # Changed, they would make every profile that was written worthless.
    signs = _directions(256, 128) * np.sqrt(128)
    assert np.unique(signs).tolist() == pytest.approx([-1, 1])
    assert (signs[3, :12] > 0).astype(int).tolist() == [0, 0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1]
    assert np.abs(signs.mean(axis=0)).max() < 0.3


def test_too_few_states_are_none():
    assert ReferenceStates.of(observations(40, 1), observations(LEAST_STATES - 1, 0), 0) is None
    assert ReferenceStates.of(observations(40, 1), [Observation({"hybridgrad": 1.0})] * 100, 0) is None
    assert ReferenceStates.of([], observations(100, 0), 0) is None
    # Nothing varies, so nothing can be compared.
    assert ReferenceStates.of(observations(1, 1) * 9, observations(100, 0), 0) is None


def test_answers_without_a_state_and_of_another_depth_are_left_out():
    odd = [Observation({"hybridgrad": 1.0}), *observations(5, 3, depth=0.25)]
    states = ReferenceStates.of([*odd, *observations(40, 1)], [*odd, *observations(70, 0)], 0)
    assert (states.n, states.depth) == (70, 0.5)


@pytest.mark.parametrize(
    ("hidden", "why"),
    [
        (None, "No hidden state"),
        (HiddenState(0.25, [0.0] * SIZE, ()), "at depth 0.25"),
        (HiddenState(0.5, [0.0] * (SIZE + 1), ()), f"this one has {SIZE + 1}"),
        (HiddenState(0.5, [float("nan")] * SIZE, ()), "not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(hidden, why):
    with pytest.raises(CalibrationError, match=why):
        states_of().projected(hidden)


def test_states_that_nobody_keeps_are_refused():
    states = states_of()
    nan = b64encode(np.full(SIZE * 60, np.nan, "<f2").tobytes()).decode()
    for change, why in (
        ({"states": nan}, "not finite"),
        ({"states": states.states[:-8]}, "are needed"),
        ({"states": "!"}, r"."),
        ({"width": 12}, f"{SIZE} are kept"),
        ({"scale": states.centre[:-16]}, "scale must have"),
        ({"scale": b64encode(np.zeros(SIZE, "<f4").tobytes()).decode()}, "above 0"),
        ({"depth": 1.5}, "less than 1"),
    ):
        with pytest.raises(ValidationError, match=why):
            ReferenceStates.model_validate({**states.model_dump(), **change})


def test_a_profile_with_states_wants_them_kept_and_one_without_has_its_old_digest():
    assert profile_with_states().depths == (0.5,)
    without = a_profile()
    assert "states" not in without.as_plain()
    with pytest.raises(ValidationError, match="different depths"):
        a_profile(states=states_of(depth=0.25))


def test_a_profile_of_fewer_answers_than_it_keeps_states_of_contradicts_itself(tmp_path):
    path = tmp_path / "profile.json"
    write_profile(profile_with_states(61), path)
    with pytest.raises(ProfileError, match="states of 61 answers, but there are only 60"):
        read_profile(path)
    write_profile(profile_with_states(60), path)
    assert json.loads(path.read_text())["states"]["width"] == SIZE
