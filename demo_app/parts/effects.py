"""What one policy would do beside what another does, as tables."""

from collections.abc import Iterator, Sequence

from demo_app.parts.curves import Mark
from demo_app.parts.errors import plain
from guardrail import GuardedAnswer, Policy
from guardrail.calibration.figure import Figure
from guardrail.calibration.report.words import NONE, counted, interval, percent
from guardrail.policy.what_if import KnownAnswer, WhatIf, what_if

__all__ = ["changes", "chat_effect", "effect", "marks", "unused"]

_ROWS = {"pass": "Passed", "flag": "Flagged", "abstain": "Abstained", "escalate": "Escalated"}
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
    return _table(("", "In the chat", "This text"), rows)


def _percent(figure: Figure) -> str:
    """A share as percent; a dash where there is none."""
    return NONE if figure.value is None else percent(figure.value)


def marks(before: WhatIf, after: WhatIf) -> list[Mark]:
    """Where both policies lie on the risk–coverage plane, by what they show."""
    return [
        mark for name, one in (("in the chat", before), ("this text", after)) for mark in _mark(name, one)
    ]


def chat_effect(before: Policy, after: Policy, answers: Sequence[GuardedAnswer]) -> tuple[WhatIf, WhatIf]:
    """What both would decide on the answers of a chat."""
    known = [KnownAnswer(answer.evidence) for answer in answers]
    return what_if(before, known), what_if(after, known)


def changes(questions: Sequence[str], before: WhatIf, after: WhatIf) -> str:
    """Each answer of which another thing would become, as a Markdown table; empty where there is none."""
    rows = [
        (plain(_short(question)), _ROWS[old.action], f"**{_ROWS[new.action]}**", plain(new.rule))
        for question, old, new in zip(questions, before.decisions, after.decisions, strict=True)
        if old.action != new.action
    ]
    return _table(("Question", "In the chat", "This text", "By rule"), rows) if rows else ""


def unused(after: WhatIf) -> str:
    """Rules that decide none of the answers, in a sentence; empty where all decide some."""
    idle = [plain(rule) for rule, count in after.rules.items() if not count]
    return f"{counted(len(idle), 'rule')} would decide none of them: {', '.join(idle)}." if idle else ""


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
