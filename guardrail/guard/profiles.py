"""Which profile a policy's answers are judged by, and whether it is one of this model."""

from typing import TYPE_CHECKING

from guardrail.calibration.builtin import builtin_profiles
from guardrail.calibration.profile import Profile, read_profile
from guardrail.errors import ForeignProfileError, ProfileError
from guardrail.guard.judging import Yardstick
from guardrail.models.fingerprint import fingerprint_model
from guardrail.policy.profiles import AUTO
from guardrail.scoring.fingerprint import fingerprint_scorer

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel
    from guardrail.policy.model import Policy

__all__ = ["find_yardstick"]


def find_yardstick(policy: "Policy", model: "LocalModel") -> Yardstick:
    """The profile that a policy names, made sure to be of this model; or why there is none.

    A profile that a policy names must fit. The one that ships for a model of this name may be of other
    weights or another dtype: there is then no profile, and the policy's ``on_uncalibrated`` decides.

    Raises:
        ProfileError: It cannot be read; ForeignProfileError where it is of another model or scorer.
    """
    if policy.profile != AUTO:
        if policy.profile_path is None:
            raise ProfileError(
                f"It is not known where the profile {policy.profile} lies: load the policy with load_policy."
            )
        profile = read_profile(policy.profile_path)
        _check(profile, model)
        return Yardstick(profile, profile.digest)
    path = builtin_profiles().get(model.name)
    if path is None:
        return Yardstick(None, None, f"no profile ships for {model.name}: guardrail calibrate makes one")
    shipped = read_profile(path)
    try:
        _check(shipped, model)
    except ForeignProfileError as error:
        return Yardstick(None, None, f"the profile that ships for {model.name} does not hold: {error}")
    return Yardstick(shipped, shipped.digest)


def _check(profile: Profile, model: "LocalModel") -> None:
    profile.check(fingerprint_model(model), fingerprint_scorer(profile.scorer.options()))
