"""The policies that come with guardrail, by name."""

from pathlib import Path

from guardrail.errors import PolicyError
from guardrail.utils.nearest import did_you_mean

__all__ = ["BUILTIN", "builtin_policies", "builtin_policy"]

BUILTIN = "builtin:"
_PACKAGE = Path(__file__).resolve().parents[1]
# A wheel carries them within the package; a checkout has them beside it, where people look for them.
_POLICIES = (_PACKAGE / "_policies", _PACKAGE.parent / "policies")


def builtin_policies() -> dict[str, Path]:
    """Where each ready policy lies, by name."""
    folder = next((folder for folder in _POLICIES if folder.is_dir()), None)
    return {} if folder is None else {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def builtin_policy(name: str) -> Path:
    """Where a ready policy lies.

    Raises:
        PolicyError: There is none of this name.
    """
    policies = builtin_policies()
    if name not in policies:
        raise PolicyError([f"there is no ready policy {name!r}{did_you_mean(name, policies)}"])
    return policies[name]
