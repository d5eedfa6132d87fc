"""The effect of a policy on answers whose correctness is known, and on those of the chat."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import streamlit as st

from demo_app.components.vega_charts import Mark
from demo_app.state.error_messages import plain
from guardrail.calibration.held_out import HeldOutAnswer, find_held_out, read_held_out
from guardrail.calibration.profile import Profile, read_profile
from guardrail.guard.answer import GuardedAnswer
from guardrail.metrics.types import Figure
from guardrail.policy.dry_run import KnownAnswer, WhatIf, known_answers, what_if
from guardrail.policy.model import Policy
from guardrail.reports.formatting import NONE, interval, percent

__all__ = ["HeldOutAnswers", "changes", "chat_effect", "decided", "effect", "known", "marks", "unused"]


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
