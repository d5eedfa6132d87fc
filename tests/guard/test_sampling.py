"""Answers are drawn as those of the calibration were, unless the caller says otherwise."""

from guardrail.guard.profiles import sampling_of
from guardrail.models.sampling import Sampling
from tests.calibration.profiles import a_profile


def made_with(**generation):
    profile = a_profile()
    making = profile.making.model_copy(update={"generation": generation})
    return profile.model_copy(update={"making": making})


def test_the_arguments_of_the_calibration_are_the_default():
    profile = made_with(
        max_tokens=128, temperature=0.0, top_p=1.0, seed=None, stop=["\n"], system_sha256=None
    )
    assert sampling_of(profile) == Sampling(max_tokens=128, stop=("\n",))


def test_without_a_profile_or_its_arguments_nothing_is_assumed():
    assert sampling_of(None) is None
    assert sampling_of(made_with()) is None
