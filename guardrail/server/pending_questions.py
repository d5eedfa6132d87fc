"""Questions that a gateway has shown, kept until it shows the responses to them."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from langchain_core.messages import BaseMessage

__all__ = ["PendingQuestions", "Question"]


@dataclass(frozen=True, slots=True)
class Question:
    """What a model was asked.

    Attributes:
        messages: The conversation.
        has_tools: Whether the model was offered tools.
        size: About how much memory it takes, in bytes.
    """

    messages: Sequence[BaseMessage] = field(repr=False)
    has_tools: bool = False
    size: int = 0


class PendingQuestions:
    """Questions by the call that they are of, as far as memory and time allow.

    A question that is no longer here is not known: the response to it cannot be checked. Nor can it where one
    call had two questions, though the first was forgotten: the response may be to that one.

    Args:
        most_bytes: How much memory they may take together.
        seconds: How long one is kept.
        clock: Tells the time, in seconds.
        most_forgotten: Of how many forgotten questions it is known that they were asked.
    """

    def __init__(
        self,
        most_bytes: int = 64_000_000,
        seconds: float = 900.0,
        clock: Callable[[], float] = time.monotonic,
        most_forgotten: int = 100_000,
    ) -> None:
        self._most, self._seconds, self._clock = most_bytes, seconds, clock
        self._size = 0
        # The oldest first. None stands for a call that had several.
        self._kept: OrderedDict[Hashable, tuple[float, int, Question | None]] = OrderedDict()
        # Hashes of the calls whose questions were forgotten, the oldest first: an id may be of any length.
        self._forgotten: OrderedDict[bytes, None] = OrderedDict()
        self._most_forgotten = most_forgotten

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, call: Hashable, question: Question) -> None:
        """Keep the question of a call.

        Args:
            call: The call.
            question: The question.
        """
        before = self._kept.get(call)
        is_other = before is not None and before[2] != question
        if is_other or _hash(call) in self._forgotten:
            # Whichever is kept, a response to the other would be taken for one to it.
            self._drop(call)
            self._keep(call, None, question.size)
            return
        self._drop(call)
        self._keep(call, question, question.size)

    def get(self, call: Hashable) -> Question | None:
        """The question of a call; None where it is not known, or had several.

        It stays: a stream may be shown piece by piece.
        """
        self._forget_old()
        kept = self._kept.get(call)
        return None if kept is None else kept[2]

    def _keep(self, call: Hashable, question: Question | None, size: int) -> None:
        self._kept[call] = (self._clock() + self._seconds, size, question)
        self._size += size
        self._forget_old()

    def _forget_old(self) -> None:
        now = self._clock()
        while self._kept:
            oldest, (until, _, _) = next(iter(self._kept.items()))
            if until > now and self._size <= self._most:
                return
            self._drop(oldest)
            self._forgotten[_hash(oldest)] = None
            while len(self._forgotten) > self._most_forgotten:
                self._forgotten.popitem(last=False)

    def _drop(self, call: Hashable) -> None:
        if call in self._kept:
            self._size -= self._kept.pop(call)[1]


def _hash(call: Hashable) -> bytes:
    return sha256(repr(call).encode("utf-8", "backslashreplace")).digest()[:16]
