"""How a guarded answer looks on a terminal: what is shown of it, and the badge that says why."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from guardrail.utils.visible_text import visible

if TYPE_CHECKING:
    from guardrail.guard.answer import GuardedAnswer

__all__ = ["print_guarded"]

_STYLES = {
    "pass": "bold black on green",
    "flag": "bold black on yellow",
    "abstain": "bold white on red",
    "escalate": "bold black on cyan",
}


def print_guarded(
    console: Console, answer: "GuardedAnswer", policy: str, *, show_draft: bool = False
) -> None:
    """Print what may be shown of an answer, its badge, and what decided.

    Args:
        console: Where to.
        answer: The answer.
        policy: The policy's name.
        show_draft: Also print a draft that is withheld.
    """
    console.print(Text(visible(answer.text)), soft_wrap=True)
    if answer.message is not None and answer.message != answer.text:
        console.print(Text(visible(answer.message), "italic"), soft_wrap=True)
    console.print()
    console.print(_badge(answer))
    console.print()
    console.print(_facts(answer, policy, show_draft=show_draft))


def _badge(answer: "GuardedAnswer") -> Text:
    text = Text(f" {answer.action.upper()} ", _STYLES[answer.action])
    if answer.confidence is None:
        text.append(" no confidence")
    else:
        from guardrail.guard.words import confidence_in_words, confidence_percent

        words = confidence_in_words(answer.confidence)
        text.append(f" {words} · {confidence_percent(answer.confidence)}")
        if answer.escalation is not None and answer.escalation.source is not None:
            text.append(" (the local model's answer, which is not shown)", "dim")
    return text if answer.enforced else text.append(" · observed only", "dim")


def _facts(answer: "GuardedAnswer", policy: str, *, show_draft: bool) -> Table:
    rows = [("Rule", f"{answer.rule}: {answer.reason}")]
    rows += [("Guarantee", f"{one}, of the answers let through by it") for one in answer.guarantees or ()]
    if answer.escalation is not None:
        rows += [
            ("Escalated", f"to {one.target}: {one.error or one.outcome}")
            for one in answer.escalation.attempts
        ]
        if answer.escalation.source is not None:
            rows.append(("Answered by", answer.escalation.source))
        if answer.escalation.ticket is not None:
            rows.append(("Ticket", answer.escalation.ticket))
    if answer.error and answer.error not in answer.reason:
        rows.append(("Error", answer.error))
    if show_draft and answer.is_withheld:
        rows.append(("Draft", answer.draft or "none"))
    rows.append(("Policy", f"{policy} ({answer.policy_digest[:12]})"))
    rows.append(("Profile", answer.profile_digest[:12] if answer.profile_digest else "none"))
    rows.append(("Model", answer.answered_by or answer.model))
    if answer.answered_by not in ("", answer.model):
        rows.append(("Scored by", answer.model))
    stages = {"answer_s": "to answer", "score_s": "to score", "escalate_s": "to escalate"}
    times = [f"{answer.timings[at]:.2f} s {words}" for at, words in stages.items() if at in answer.timings]
    rows.append(("Time", ", ".join(times)))
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in rows:
        if value:
            table.add_row(Text(name), Text(visible(value)))
    return table
