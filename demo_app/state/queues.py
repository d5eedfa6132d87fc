"""The review queues of the active policy and of the built-in policies."""

from typing import NamedTuple

from demo_app.state.session import current_policy
from demo_app.state.settings import queue_url
from guardrail import HumanQueue
from guardrail.errors import PolicyError
from guardrail.escalation.case import Item, labels
from guardrail.utils.json_lines import as_json

__all__ = ["Queue", "label_lines", "queues", "read"]


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
