"""One visitor's chat and choices, in one typed object."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from demo_app.parts.settings import settings
from guardrail.policy.builtin import BUILTIN

if TYPE_CHECKING:
    from demo_app.parts.asking import Asking
    from guardrail import GuardedAnswer, Policy

__all__ = ["Session", "Turn"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One question of the chat, and what came of it.

    Attributes:
        question: What was asked.
        answer: What the guard gave; None where it gave nothing.
        problem: Why there is no answer, as a sentence; empty where there is one.
        is_first: Whether a conversation begins here: nothing before it is part of the prompt.
        policy: What decided.
        heard: What was shown of the draft before it was stopped.
    """

    question: str
    answer: "GuardedAnswer | None" = None
    problem: str = ""
    is_first: bool = False
    policy: "Policy | None" = None
    heard: str = ""


@dataclass(slots=True)
class Session:
    """What one visitor has.

    Attributes:
        model_name: The model that answers.
        policy_source: Where the policy's text came from: ``builtin:NAME`` or a path.
        policy_text: The policy as it stands in the editor, right or wrong.
        policy: The policy in use: the last text without a mistake; None where there never was one.
        mistakes: What is wrong with the text, each with its line.
        profile_path: A profile to use in place of the one that the policy names.
        turns: The chat.
        revealed: Ids of requests whose withheld drafts the visitor asked to see.
        asking: The question that is being answered.
        begins: Whether the next question begins a conversation.
        models: Names of models that were opened in this visit.
        compared: The last question that was asked on both sides of the Compare page.
    """

    model_name: str
    policy_source: str
    policy_text: str = ""
    policy: "Policy | None" = None
    mistakes: tuple[str, ...] = ()
    profile_path: Path | None = None
    turns: list[Turn] = field(default_factory=list)
    revealed: set[str] = field(default_factory=set)
    asking: "Asking | None" = None
    begins: bool = True
    models: list[str] = field(default_factory=list)
    compared: "tuple[Asking, Asking] | None" = None

    @property
    def answers(self) -> "list[GuardedAnswer]":
        """All that was answered in this visitor's chat, oldest first."""
        return [turn.answer for turn in self.turns if turn.answer is not None]

    @property
    def folder(self) -> Path:
        """Where the policy's paths start from."""
        if self.policy_source.startswith(BUILTIN):
            return settings().data
        return Path(self.policy_source).parent
