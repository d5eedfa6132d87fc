"""The chat as it goes on: what is asked next, with what before it, and what came of it."""

from typing import TYPE_CHECKING, Any

from demo_app.parts.asking import Asking
from demo_app.parts.models import house
from demo_app.parts.session import current_policy
from demo_app.parts.visitor import Session, Turn
from guardrail.guard.history import VERDICT_FIELD

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["EXAMPLES", "ask", "begin_anew", "finish", "history"]

# Questions by kind: the built-in model gets the first kind right and the others wrong.
EXAMPLES = {
    "Easy": ("What is the capital of Japan?", "What is the chemical symbol for gold?"),
    "Hard": ("Which element has the atomic number 109?", "What is 17 times 24?"),
    "Trick": ("Who was the first woman to walk on the Moon?", "How many letters r are in strawberry?"),
}


def ask(session: Session, question: str, *, alone: bool = False) -> None:
    """Begin to answer a question.

    Args:
        session: The visitor's.
        question: What they ask.
        alone: Without what was said before.

    Raises:
        PolicyError: There is no policy in use.
    """
    session.begins = session.begins or alone
    before = [] if session.begins else history(session.turns)
    messages = [*before, {"role": "user", "content": question}]
    session.asking = Asking(messages, current_policy(), session.model_name, house()).start()


def finish(session: Session) -> None:
    """Put what came of the question into the chat, or that it was stopped."""
    asking = session.asking
    if asking is None:
        return
    session.turns.append(
        Turn(
            asking.question,
            asking.answer,
            asking.problem if asking.stage == "done" else "Stopped.",
            is_first=session.begins,
            policy=asking.policy,
            heard=asking.heard,
        )
    )
    session.asking, session.begins = None, False


def begin_anew(session: Session) -> None:
    """Forget the chat."""
    if session.asking is not None:
        session.asking.stop()
    session.turns, session.revealed, session.asking, session.begins = [], set(), None, True


def history(turns: "Sequence[Turn]") -> list[dict[str, Any]]:
    """The present conversation as its visitor saw it, each answer with its verdict.

    By that the guard leaves out turns that were withheld. A question that got no answer at all is left out
    here.
    """
    messages: list[dict[str, Any]] = []
    for turn in turns:
        if turn.is_first:
            messages = []
        if turn.answer is not None:
            said = {"role": "assistant", "content": turn.answer.text, VERDICT_FIELD: turn.answer.as_plain()}
            messages += [{"role": "user", "content": turn.question}, said]
    return messages
