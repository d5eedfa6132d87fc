"""The profiles that come with guardrail, and the answers held out of them, by the name of their model."""

from importlib.resources import files
from pathlib import Path

__all__ = ["builtin_held_out", "builtin_profile", "builtin_profiles"]


def builtin_profiles() -> dict[str, Path]:
    """Where the profile that ships for a model lies, by the model's name."""
    # As a path: a profile's messages name its file.
    folder = Path(str(files("guardrail"))) / "data" / "profiles"
    return {file.stem: file for file in sorted(folder.glob("*.json"))}


def builtin_profile(name: str) -> Path | None:
    """Where the profile lies that ships for a model; None where none does."""
    return builtin_profiles().get(name)


def builtin_held_out(name: str) -> Path | None:
    """Where the answers lie that were held out of a model's profile; None where none ship."""
    file = Path(str(files("guardrail"))) / "data" / "held_out" / f"{name}.jsonl"
    return file if file.is_file() else None
