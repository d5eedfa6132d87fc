"""Answers of which is known whether they were right: what a policy is tried on without running the model."""

from pathlib import Path
from typing import NamedTuple

import streamlit as st

from guardrail.calibration.held_out import HeldOutAnswer, find_held_out, read_held_out
from guardrail.calibration.profile import Profile, read_profile
from guardrail.policy.model import Policy
from guardrail.policy.what_if import KnownAnswer, WhatIf, known_answers, what_if

__all__ = ["Known", "decided", "known"]


class Known(NamedTuple):
    """The held-out answers of a profile.

    Attributes:
        profile: The profile.
        held_out: They, as they were kept.
        answers: The same, as a policy sees them.
        source: The files that they were read from, each with the time of its last change.
    """

    profile: Profile
    held_out: tuple[HeldOutAnswer, ...]
    answers: tuple[KnownAnswer, ...]
    source: tuple[tuple[Path, int], ...]


def known(profile: Path) -> Known | None:
    """The held-out answers of a profile's file; None where there are none.

    Raises:
        GuardrailError: The profile, or the file of answers, cannot be read.
    """
    answers = find_held_out(profile)
    return None if answers is None else _read(((profile, _changed(profile)), (answers, _changed(answers))))


def decided(policy: Policy, found: Known) -> WhatIf:
    """What a policy would do to the answers: worked out once, for whoever looks at them."""
    return _decided(policy.digest, found.source, policy, found)


@st.cache_resource(show_spinner=False, max_entries=8)
def _read(source: tuple[tuple[Path, int], ...]) -> Known:
    (profile, _), (answers, _) = source
    read = read_profile(profile)
    held_out = read_held_out(answers, read)
    return Known(read, held_out, known_answers(read, held_out), source)


@st.cache_resource(show_spinner=False, max_entries=32)
def _decided(digest: str, source: tuple[tuple[Path, int], ...], _policy: Policy, _found: Known) -> WhatIf:
    return what_if(_policy, _found.answers)


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0
