"""Profiles that were made here: kept in the demo's folder, and used in the chat."""

import re
from pathlib import Path

from demo_app.parts.session import state
from demo_app.parts.settings import settings
from guardrail.calibration.held_out import find_held_out
from guardrail.calibration.profile import read_profile
from guardrail.errors import OptionError
from guardrail.utils.whole_files import write_whole

__all__ = ["keep", "made_here", "use"]

_NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,60}")


def made_here() -> dict[str, Path]:
    """The profiles kept, by name."""
    return {file.stem: file for file in sorted((settings().data / "profiles").glob("*.json"))}


def keep(profile: Path, name: str) -> Path:
    """Keep a profile under a name, with its held-out answers beside it.

    Raises:
        OptionError: The name cannot be one of a file, or another profile has it.
        ProfileError: The profile cannot be read.
    """
    if not _NAME.fullmatch(name):
        raise OptionError(f"{name!r} is no name for a file; use letters, digits, '_', '-' and '.'.")
    folder = settings().data / "profiles"
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{name}.json"
    if kept.exists() and read_profile(kept).digest != read_profile(profile).digest:
        raise OptionError(f"Another profile is called {name} already; choose another name.")
    held_out = find_held_out(profile)
    if held_out is not None:
        write_whole(kept.with_name(f"{name}.held-out.jsonl"), held_out.read_bytes())
    write_whole(kept, profile.read_bytes())
    return kept


def use(profile: Path | None) -> None:
    """Judge the chat's answers by a profile in place of the policy's own; None to go back to that."""
    state().profile_path = profile
