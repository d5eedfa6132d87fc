"""How each action looks and what it is called: never by colour alone."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from guardrail.policy.evidence import Action

__all__ = ["LOOKS", "Look"]


@dataclass(frozen=True, slots=True)
class Look:
    """How one action is shown.

    Attributes:
        word: What it is called.
        means: What was done, in words that need no explanation.
        icon: Name of a Material symbol.
        colour: Streamlit's name of the colour.
    """

    word: str
    means: str
    icon: str
    colour: str


LOOKS: "Mapping[Action, Look]" = {
    "pass": Look("Passed", "sure enough, shown as it is", "check_circle", "green"),
    "flag": Look("Flagged", "shown with a warning", "warning", "orange"),
    "abstain": Look("Abstained", "too unsure, withheld", "block", "red"),
    "escalate": Look("Escalated", "handed to somebody else", "move_up", "violet"),
}
