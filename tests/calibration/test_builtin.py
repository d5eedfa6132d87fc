import pytest

from guardrail.calibration.held_out import builtin_profile, builtin_profiles
from guardrail.calibration.profile import read_profile
from guardrail.models.files.reference import BUILTIN_MODELS


def test_every_profile_that_ships_is_one_of_a_model_that_is_built_in():
    for name, path in builtin_profiles().items():
        assert name in BUILTIN_MODELS
        assert read_profile(path).model.name == name
        assert builtin_profile(name) == path


@pytest.mark.parametrize("name", ["nothing", "", "..", "../profiles/smollm2-135m", "owner/name"])
def test_no_profile_ships_for_another_name(name):
    assert builtin_profile(name) is None
