"""What a policy asks of its profile: that it can be read, and that it has what the rules name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from guardrail.calibration.builtin import builtin_profiles
from guardrail.errors import ProfileError
from guardrail.policy.builtin import BUILTIN
from guardrail.policy.conditions import Certified
from guardrail.policy.places import Mistake, Node
from guardrail.policy.ranges import QUANTILES
from guardrail.policy.reach import conditions_of
from guardrail.utils.nearest import did_you_mean

if TYPE_CHECKING:
    from guardrail.calibration.profile import Profile

__all__ = ["AUTO", "UNKNOWN_FILE", "Profiled", "check_profile"]

AUTO = "auto"
UNKNOWN_FILE = (
    "is no file that can be named here; name one with builtin:, or start from a policy that names it"
)


@dataclass(slots=True)
class Profiled:
    """What came of looking through a policy's profile.

    Attributes:
        path: Where it lies; None where that depends on the model in use, or cannot be told.
        mistakes: What is wrong with it, or with what rules ask of it.
        warnings: What depends on its data.
    """

    path: Path | None = None
    mistakes: list[Mistake] = field(default_factory=list)
    warnings: list[Mistake] = field(default_factory=list)


def check_profile(
    root: Node, folders: Mapping[str, Path], as_named: Callable[[Path], Path | None] = lambda file: file
) -> Profiled:
    """Find the profile, and compare it with the rules.

    Args:
        root: The policy's values.
        folders: The folder of each file that they stand in.
        as_named: Gives a file as it is to be read; None for one that the policy may not name.
    """
    found = Profiled()
    node = root.get("profile")
    if node is None or node.text in (AUTO, ""):
        model = root.get("model")
        of_model = builtin_profiles().get(model.text) if model and model.text else None
        if of_model is not None:
            _compare(root, node or root, of_model, found)
        return found
    if node.text is None:
        return found
    if node.text.startswith(BUILTIN):
        name, shipped = node.text.removeprefix(BUILTIN), builtin_profiles()
        if name not in shipped:
            found.mistakes.append(node.mistake(f"no profile ships for {name!r}{did_you_mean(name, shipped)}"))
            return found
        found.path = shipped[name]
    else:
        named = as_named(folders[node.place.file] / node.text)
        if named is None:
            found.mistakes.append(node.mistake(UNKNOWN_FILE))
            return found
        found.path = named
    _compare(root, node, found.path, found)
    return found


def _compare(root: Node, node: Node, path: Path, found: Profiled) -> None:
    # Not at the top: most policies leave the profile to the model, and its classes take their time to build.
    from guardrail.calibration.profile import read_profile

    try:
        profile = read_profile(path)
    except (ProfileError, ValueError) as error:
        found.mistakes.append(node.mistake(str(error)))
        return
    for when in conditions_of(root):
        confidence, certified, quantile = when.get("confidence"), when.get("certified"), when.get("quantile")
        if confidence is not None and not profile.is_calibrated:
            said = "the profile was made without labels and gives no confidence: on_uncalibrated decides"
            found.warnings.append(confidence.mistake(said))
        for name, entry in (quantile.entries if quantile else {}).items():
            if name in QUANTILES and name not in profile.reference:
                said = f"the profile has no reference answers for {name!r}"
                found.mistakes.append(entry.node.mistake(said + did_you_mean(name, profile.reference)))
        if certified is not None:
            _compare_guarantee(certified, profile, found)


def _compare_guarantee(node: Node, profile: "Profile", found: Profiled) -> None:
    from guardrail.calibration.profile import Guarantee

    try:
        wanted = Guarantee(*Certified.model_validate(node.plain()).model_dump().values())
    except ValidationError:
        return
    threshold = profile.certified_for(wanted)
    if threshold is None:
        has = "; ".join(str(one.guarantee) for one in profile.certified) or "none"
        found.mistakes.append(
            node.mistake(
                f"the profile has no threshold for this guarantee; it has {has}. Make it again with "
                f"guardrail calibrate --target-error {wanted.max_error:g} --confidence {wanted.confidence:g}"
            )
        )
    elif threshold.threshold is None:
        said = f"never holds: the guarantee is infeasible with this profile ({threshold.reason})"
        found.warnings.append(node.mistake(said))
