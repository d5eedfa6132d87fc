"""Which profile a policy's answers are judged by, and whether it is one of this model."""

from typing import TYPE_CHECKING, Any

from guardrail.calibration.builtin import builtin_profiles
from guardrail.calibration.profile import Profile, read_profile
from guardrail.errors import ForeignProfileError, ProfileError
from guardrail.guard.judging import Yardstick
from guardrail.models.fingerprint import fingerprint_model
from guardrail.models.sampling import Sampling
from guardrail.policy.profiles import AUTO
from guardrail.scoring.fingerprint import fingerprint_scorer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from guardrail.models.local import LocalModel
    from guardrail.policy.model import Policy

__all__ = ["find_yardstick", "sampling_of"]


_SAMPLED = ("max_tokens", "temperature", "top_p", "max_reasoning_tokens")


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
        return Yardstick(profile, profile.digest, model.name)
    path = builtin_profiles().get(model.name)
    if path is None:
        missing = f"no profile ships for {model.name}: guardrail calibrate makes one"
        return Yardstick(None, None, model.name, missing)
    shipped = read_profile(path)
    try:
        _check(shipped, model)
    except ForeignProfileError as error:
        missing = f"the profile that ships for {model.name} does not hold: {error}"
        return Yardstick(None, None, model.name, missing)
    return Yardstick(shipped, shipped.digest, model.name)


def sampling_of(profile: Profile | None) -> Sampling | None:
    """How answers are drawn where the caller does not say: as those that the profile was made of."""
    made: Mapping[str, Any] = profile.making.generation if profile else {}
    known = {name: made[name] for name in _SAMPLED if name in made}
    return Sampling(**known, stop=tuple(made.get("stop") or ())) if known else None


def _check(profile: Profile, model: "LocalModel") -> None:
    profile.check(fingerprint_model(model), fingerprint_scorer(profile.scorer.options()))
