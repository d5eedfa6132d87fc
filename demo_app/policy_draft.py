"""The policy being edited: its text, its sliders, and its effect on answers whose correctness is known.

Also the profiles made on the Calibration page, which it may use.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import streamlit as st

from demo_app.components.vega_charts import Mark
from demo_app.session import apply_policy, choose_policy, state
from demo_app.settings import plain, settings
from guardrail.calibration.held_out import HeldOutAnswer, find_held_out, read_held_out
from guardrail.calibration.profile import Profile, read_profile
from guardrail.errors import OptionError
from guardrail.guard.answer import GuardedAnswer
from guardrail.metrics import Figure
from guardrail.policy.document import Mistake
from guardrail.policy.dry_run import KnownAnswer, WhatIf, known_answers, what_if
from guardrail.policy.editing import Bound, bounds_of, with_bound
from guardrail.policy.model import Policy
from guardrail.policy.yaml_document import BUILTIN, builtin_policies
from guardrail.reports.formatting import NONE, interval, percent
from guardrail.utils.files import write_whole

__all__ = [
    "HeldOutAnswers",
    "changes",
    "chat_effect",
    "decided",
    "draft",
    "effect",
    "keep",
    "known",
    "listing",
    "made_here",
    "marks",
    "read_ready",
    "ready_name",
    "set_control",
    "sliders",
    "unused",
    "use",
    "use_draft",
    "write",
]


_NAME = re.compile(r"[A-Za-z0-9_][\w.-]{0,60}")


def made_here() -> dict[str, Path]:
    """The saved profiles by name."""
    return {file.stem: file for file in sorted((settings().data / "profiles").glob("*.json"))}


def keep(profile: Path, name: str) -> Path:
    """Save a profile under a name, with its held-out answers beside it.

    Raises:
        OptionError: The name is not a valid file name, or another profile has it.
        ProfileError: The profile cannot be read.
    """
    if not _NAME.fullmatch(name):
        raise OptionError(f"{name!r} is not a valid name; use letters, digits, '_', '-' and '.'.")
    folder = settings().data / "profiles"
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"{name}.json"
    if kept.exists() and read_profile(kept).digest != read_profile(profile).digest:
        raise OptionError(f"Another profile is already called {name}; choose another name.")
    held_out = find_held_out(profile)
    if held_out is not None:
        write_whole(kept.with_name(f"{name}.held-out.jsonl"), held_out.read_bytes())
    write_whole(kept, profile.read_bytes())
    return kept


def use(profile: Path | None) -> None:
    """Use a profile in the chat instead of the policy's own; None switches back."""
    state().profile_path = profile


_KEY = "policy.draft"


@dataclass(frozen=True, slots=True)
class _Draft:
    """An edited text, and the active text it started from."""

    text: str
    begun_from: str


def draft() -> str:
    """The text in the editor: the active policy's again if that was changed elsewhere."""
    in_use = state().policy_text
    kept = st.session_state.get(_KEY)
    if not isinstance(kept, _Draft) or kept.begun_from != in_use:
        write(in_use)
    text: str = st.session_state[_KEY].text
    return text


def write(text: str) -> None:
    """Replace the text in the editor."""
    st.session_state[_KEY] = _Draft(text, state().policy_text)


def use_draft() -> None:
    """Apply the text in the editor to the chat."""
    name = ready_name(draft())
    if name is None:
        apply_policy(draft())
    else:
        choose_policy(f"{BUILTIN}{name}")


def read_ready(name: str) -> str:
    """The text of a built-in policy."""
    return builtin_policies()[name].read_text(encoding="utf-8")


def ready_name(text: str) -> str | None:
    """The name of the built-in policy with exactly this text, if there is one."""
    return next((name for name in builtin_policies() if read_ready(name) == text), None)


def set_control(key: str, value: str | float | None) -> None:
    """Set a control unless it already has the value: writing to it would interrupt a drag."""
    if key not in st.session_state or st.session_state[key] != value:
        st.session_state[key] = value


def listing(text: str, mistakes: tuple[Mistake, ...]) -> str:
    """Mistakes by line and column, each under the line it is in."""
    return "\n\n".join(_shown(text, number, one) for number, one in enumerate(mistakes, start=1))


def _shown(text: str, number: int, mistake: Mistake) -> str:
    place, lines = mistake.place, text.split("\n")
    said = f"{number}. line {place.line}, column {place.column}: {mistake.path}: {mistake.text}"
    if place.file != "policy.yaml" or place.line > len(lines):
        return f"{number}. {mistake}"
    margin = f"{place.line} | "
    return f"{said}\n   {margin}{lines[place.line - 1]}\n   {' ' * (len(margin) + place.column - 1)}^"


_SIGNS = {"gte": "at least", "gt": "more than", "lte": "at most", "lt": "less than"}
# Parsing YAML takes longer than everything else after a click.
_bounds_of = lru_cache(maxsize=64)(bounds_of)


def sliders() -> None:
    """Show a slider for each bound in the edited policy; moving it changes the text."""
    bounds = _bounds_of(draft())
    if not bounds:
        st.caption("No rule of this policy has a confidence bound, so there is no slider.")
    for bound in bounds:
        key = f"policy.bound.{bound.path}"
        set_control(key, bound.value)
        what = "confidence" if bound.of == "confidence" else f"quantile of {bound.of}"
        st.slider(
            f"Rule {plain(bound.rule)}: {plain(what)} {_SIGNS[bound.kind]}",
            0.0,
            1.0,
            step=0.01,
            key=key,
            on_change=_moved,
            args=(bound, key),
        )


def _moved(bound: Bound, key: str) -> None:
    write(with_bound(draft(), bound, st.session_state[key]))


class HeldOutAnswers(NamedTuple):
    """The held-out answers of a profile.

    Attributes:
        profile: The profile.
        held_out: Its held-out answers as stored.
        answers: The same answers as a policy sees them.
        source: The files they were read from, with modification times.
    """

    profile: Profile
    held_out: tuple[HeldOutAnswer, ...]
    answers: tuple[KnownAnswer, ...]
    source: tuple[tuple[Path, int], ...]


def known(profile: Path) -> HeldOutAnswers | None:
    """The held-out answers beside a profile, if there are any.

    Raises:
        GuardrailError: The profile, or the file of answers, cannot be read.
    """
    answers = find_held_out(profile)
    return None if answers is None else _read(((profile, _changed(profile)), (answers, _changed(answers))))


def decided(policy: Policy, found: HeldOutAnswers) -> WhatIf:
    """What a policy would do to the answers; cached for all visitors."""
    return _decided(policy.digest, found.source, policy, found)


@st.cache_resource(show_spinner=False, max_entries=8)
def _read(source: tuple[tuple[Path, int], ...]) -> HeldOutAnswers:
    (profile, _), (answers, _) = source
    read = read_profile(profile)
    held_out = read_held_out(answers, read)
    return HeldOutAnswers(read, held_out, known_answers(read, held_out), source)


@st.cache_resource(show_spinner=False, max_entries=32)
def _decided(
    digest: str, source: tuple[tuple[Path, int], ...], _policy: Policy, _found: HeldOutAnswers
) -> WhatIf:
    return what_if(_policy, _found.answers)


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


_ROWS = {"pass": "Passed", "flag": "Flagged", "abstain": "Withheld", "escalate": "Sent for review"}
_LONGEST = 70


def effect(before: WhatIf, after: WhatIf) -> str:
    """Counts, coverage and error before and after, as a Markdown table."""
    rows = [
        (name, f"{before.actions[action]:,}", f"{after.actions[action]:,}")
        for action, name in zip(before.actions, _ROWS.values(), strict=True)
    ]
    rows += [
        ("**Shown**", _percent(before.shown.coverage), _percent(after.shown.coverage)),
        ("**Wrong among shown**", _percent(before.shown.error), _percent(after.shown.error)),
        ("95 % interval", _interval(before.shown.error), _interval(after.shown.error)),
    ]
    return _table(("", "Active policy", "Your edit"), rows)


def _percent(figure: Figure) -> str:
    """A share as percent; a dash if unknown."""
    return NONE if figure.value is None else percent(figure.value)


def marks(before: WhatIf, after: WhatIf) -> list[Mark]:
    """Where both policies lie on the risk-coverage plane, by what they show."""
    return [
        mark for name, one in (("active policy", before), ("your edit", after)) for mark in _mark(name, one)
    ]


def chat_effect(before: Policy, after: Policy, answers: Sequence[GuardedAnswer]) -> tuple[WhatIf, WhatIf]:
    """What both policies would decide on the answers of a chat."""
    known = [KnownAnswer(answer.evidence) for answer in answers]
    return what_if(before, known), what_if(after, known)


def changes(questions: Sequence[str], before: WhatIf, after: WhatIf) -> str:
    """The answers whose action would change, as a Markdown table; empty if there are none."""
    rows = [
        (plain(_short(question)), _ROWS[old.action], f"**{_ROWS[new.action]}**", plain(new.rule))
        for question, old, new in zip(questions, before.decisions, after.decisions, strict=True)
        if old.action != new.action
    ]
    return _table(("Question", "Active policy", "Your edit", "By rule"), rows) if rows else ""


def unused(after: WhatIf) -> str:
    """A sentence naming rules that decide none of the answers; empty if there are none."""
    idle = [f"**{plain(rule)}**" for rule, count in after.rules.items() if not count]
    if not idle:
        return ""
    return f"Rule {idle[0]} never applies." if len(idle) == 1 else f"Rules {', '.join(idle)} never apply."


def _mark(name: str, one: WhatIf) -> Iterator[Mark]:
    error, coverage = one.shown.error, one.shown.coverage
    if error.value is not None and error.low is not None and error.high is not None:
        yield Mark(name, coverage.value or 0.0, error.value, error.low, error.high)


def _interval(figure: Figure) -> str:
    return NONE if figure.low is None else interval(figure, as_percent=True)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *("---:" for _ in head[1:])] if head[0] == "" else ["---" for _ in head], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
