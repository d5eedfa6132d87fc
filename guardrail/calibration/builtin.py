"""The profiles that come with guardrail, by the name of their model."""

from importlib.resources import files
from pathlib import Path

__all__ = ["builtin_profile", "builtin_profiles"]


def builtin_profiles() -> dict[str, Path]:
    """Where the profile that ships for a model lies, by the model's name."""
    # As a path: a profile's messages name its file.
    folder = Path(str(files("guardrail"))) / "data" / "profiles"
    return {file.stem: file for file in sorted(folder.glob("*.json"))}


def builtin_profile(name: str) -> Path | None:
    """Where the profile lies that ships for a model; None where none does."""
    return builtin_profiles().get(name)
