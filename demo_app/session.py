"""A visitor's session, kept between runs of the page: the chat, the policy, its review queues, the model."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import streamlit as st

from demo_app.model_pool import Asking, house
from demo_app.settings import Settings, environment, known_files, only_known_places, queue_url, settings
from guardrail import HumanQueue
from guardrail.calibration.held_out import builtin_profile
from guardrail.calibration.profile import Profile, read_profile
from guardrail.errors import PolicyError
from guardrail.escalation.case import Item, labels
from guardrail.guard.history import VERDICT_FIELD
from guardrail.policy.load import Checked, check_policy, check_text
from guardrail.policy.yaml_document import BUILTIN, builtin_policy, policy_text
from guardrail.utils.json_lines import as_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardrail import GuardedAnswer, LocalModel, Policy
    from guardrail.utils.threads import ProgressCallback

__all__ = [
    "EXAMPLES",
    "ChatTurn",
    "Queue",
    "Session",
    "apply_policy",
    "ask",
    "begin_anew",
    "check_draft",
    "choose_policy",
    "current_model",
    "current_policy",
    "current_profile",
    "finish",
    "history",
    "label_lines",
    "profile_of",
    "queues",
    "read",
    "state",
]


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """One question of the chat and its answer.

    Attributes:
        question: The question.
        answer: The guarded answer, if there is one.
        problem: The error in a sentence, if there is no answer.
        is_first: Whether a conversation begins here: earlier turns are not part of the prompt.
        policy: The policy that decided.
        heard: The part of the draft that was shown before it was stopped.
    """

    question: str
    answer: "GuardedAnswer | None" = None
    problem: str = ""
    is_first: bool = False
    policy: "Policy | None" = None
    heard: str = ""


@dataclass(slots=True)
class Session:
    """The state of one visitor.

    Attributes:
        model_name: The model that answers.
        policy_source: Where the policy's text came from: ``builtin:NAME`` or a path.
        policy_text: The policy in the editor, valid or not.
        policy: The active policy: the last valid text; None if there never was one.
        mistakes: The errors in the text, each with its line.
        profile_path: A profile that replaces the policy's own.
        turns: The chat.
        revealed: Request ids whose withheld drafts the visitor revealed.
        asking: The question being answered.
        begins: Whether the next question starts a conversation.
        models: Names of models opened in this visit.
        compared: The last question asked on the Compare page, once for each side.
    """

    model_name: str
    policy_source: str
    policy_text: str = ""
    policy: "Policy | None" = None
    mistakes: tuple[str, ...] = ()
    profile_path: Path | None = None
    turns: list[ChatTurn] = field(default_factory=list)
    revealed: set[str] = field(default_factory=set)
    asking: Asking | None = None
    begins: bool = True
    models: list[str] = field(default_factory=list)
    compared: tuple[Asking, Asking] | None = None

    @property
    def answers(self) -> "list[GuardedAnswer]":
        """All answers of this visitor's chat, oldest first."""
        return [turn.answer for turn in self.turns if turn.answer is not None]

    @property
    def folder(self) -> Path:
        """The folder that the policy's relative paths start from."""
        if self.policy_source.startswith(BUILTIN):
            return settings().data
        return Path(self.policy_source).parent


_KEY = "guardrail"
# The file name in errors of a text that is in no file.
_TYPED = "policy.yaml"


def state() -> Session:
    """This visitor's session; created on the first visit."""
    if _KEY not in st.session_state:
        st.session_state[_KEY] = _new(settings())
    session: Session = st.session_state[_KEY]
    return session


def choose_policy(source: str) -> Checked:
    """Make a built-in policy (``builtin:NAME``) or a file the active policy."""
    session = state()
    session.policy_source = source
    return _taken(session, _text_of(source), check_policy(source, environment()))


def check_draft(text: str) -> Checked:
    """Check a policy that is being edited; the active one stays."""
    checked = check_text(text, _TYPED, state().folder, _visible_environment(), known_files())
    return only_known_places(checked, text, _TYPED)


def apply_policy(text: str) -> Checked:
    """Take over the editor's text. If it has errors it is kept, and the previous policy stays active."""
    return _taken(state(), text, check_draft(text))


def current_policy() -> "Policy":
    """The active policy, with the visitor's own profile if one was chosen.

    Raises:
        PolicyError: There has been no valid policy yet.
    """
    session = state()
    if session.policy is None:
        raise PolicyError(session.mistakes)
    if session.profile_path is None:
        return session.policy
    changed = session.policy.model_copy(update={"profile": str(session.profile_path)})
    return changed.found_at(session.profile_path)


def current_profile() -> Profile | None:
    """The profile in use for the active policy, read without opening the model.

    Raises:
        ProfileError: It cannot be read.
    """
    return profile_of(current_policy(), state().model_name)


def profile_of(policy: "Policy", model_name: str) -> Profile | None:
    """The profile in use for a policy and a model; raises like :func:`current_profile`."""
    path = _path_of(policy, model_name)
    return None if path is None else _read(path, path.stat().st_mtime_ns if path.exists() else 0)


def current_model(progress: "ProgressCallback | None" = None) -> "LocalModel":
    """The visitor's model, shared by all visitors; opened if necessary, which takes a while.

    Raises:
        GuardrailError: The model cannot be opened.
    """
    return house().model(state().model_name, progress)


@st.cache_resource(show_spinner=False, max_entries=16)
def _read(path: Path, changed: int) -> Profile:
    return read_profile(path)


def _path_of(policy: "Policy", model_name: str) -> Path | None:
    return policy.profile_path or builtin_profile(model_name)


def _new(given: Settings) -> Session:
    session = Session(given.model, given.policy)
    _taken(session, _text_of(given.policy), check_policy(given.policy, environment()))
    return session


def _taken(session: Session, text: str, checked: Checked) -> Checked:
    session.policy_text = text
    session.mistakes = tuple(map(str, checked.mistakes))
    session.policy = checked.policy or session.policy
    return checked


def _text_of(source: str) -> str:
    try:
        name = source.removeprefix(BUILTIN)
        path = builtin_policy(name) if source.startswith(BUILTIN) else Path(source)
        return policy_text(path)
    except (PolicyError, OSError, UnicodeDecodeError):
        # Its errors are among the policy's mistakes.
        return ""


def _visible_environment() -> dict[str, str]:
    # A policy typed into the page must not read secrets from the server's environment.
    return {name: value for name, value in environment().items() if name.startswith("GUARDRAIL_")}


# By kind: the built-in model gets the easy questions right and the others wrong.
EXAMPLES = {
    "Easy": ("What is the capital of Japan?", "What is the chemical symbol for gold?"),
    "Hard": ("Which element has the atomic number 109?", "What is 17 times 24?"),
    "Trick": ("Who was the first woman to walk on the Moon?", "How many letters r are in strawberry?"),
}


def ask(session: Session, question: str, *, alone: bool = False) -> None:
    """Start answering a question.

    Args:
        session: The visitor's session.
        question: The question.
        alone: Whether to leave out earlier turns.

    Raises:
        PolicyError: There is no active policy.
    """
    session.begins = session.begins or alone
    before = [] if session.begins else history(session.turns)
    messages = [*before, {"role": "user", "content": question}]
    session.asking = Asking(messages, current_policy(), session.model_name, house()).start()


def finish(session: Session) -> None:
    """Add the finished or stopped question to the chat."""
    asking = session.asking
    if asking is None:
        return
    session.turns.append(
        ChatTurn(
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
    """Start a new, empty chat."""
    if session.asking is not None:
        session.asking.stop()
    session.turns, session.revealed, session.asking, session.begins = [], set(), None, True


def history(turns: "Sequence[ChatTurn]") -> list[dict[str, Any]]:
    """The current conversation as the visitor saw it, each answer with its verdict.

    The verdict lets the guard leave out withheld turns. Questions without any answer are left out here.
    """
    messages: list[dict[str, Any]] = []
    for turn in turns:
        if turn.is_first:
            messages = []
        if turn.answer is not None:
            said = {"role": "assistant", "content": turn.answer.text, VERDICT_FIELD: turn.answer.as_plain()}
            messages += [{"role": "user", "content": turn.question}, said]
    return messages


class Queue(NamedTuple):
    """A queue and its items.

    Attributes:
        queue: The queue.
        waiting: Items without an answer, oldest first.
        answered: Items with an answer.
    """

    queue: HumanQueue
    waiting: list[Item]
    answered: list[Item]


def queues() -> list[str]:
    """The queues' URLs, the active policy's first."""
    try:
        targets = [*current_policy().escalation.values()]
    except PolicyError:
        targets = []
    return [*dict.fromkeys([*(one.queue for one in targets if one.queue is not None), queue_url()])]


def read(url: str) -> Queue:
    """Read a queue; one that does not exist yet is empty.

    Raises:
        GuardrailError: The queue cannot be read.
    """
    queue = HumanQueue(url)
    items = queue.items() if queue.path.exists() else []
    return Queue(
        queue,
        [item for item in items if item.answer is None],
        [item for item in items if item.answer is not None],
    )


def label_lines() -> str:
    """The labels from all queues as JSON Lines for a calibration."""
    said = [label for url in queues() for label in labels(read(url).answered)]
    return "".join(f"{as_json(label)}\n" for label in said)
