"""The text of a response while it is generated, piece by piece."""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

from guardrail.models.decoding import INCOMPLETE
from guardrail.models.response import ResponseReader

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TextStream"]

# A model that is not known to reason does so at the beginning or not at all.
_LONGEST_MARKER = 32


class TextStream(StoppingCriteria):
    """Tells of an answer's text as it becomes certain; of reasoning it tells nothing.

    What is told is never taken back: what may yet become a stop string, or is not a whole character, waits
    for what follows, or for :meth:`finish`.

    Args:
        tokenizer: The tokenizer.
        stop: Strings that end the response.
        width: Columns of the prompt.
        on_text: Told of each piece.
        silent_ends: Tokens that end the response and are no part of its text.
        opened: Whether the prompt opened the reasoning.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        stop: Sequence[str],
        width: int,
        on_text: Callable[[str], None],
        silent_ends: Collection[int] = (),
        *,
        opened: bool = False,
    ) -> None:
        self.tokenizer, self.stop, self.width, self.on_text = tokenizer, stop, width, on_text
        self.reader = ResponseReader(tokenizer, stop, silent_ends, opened=opened)
        self._markers = [one.begin for one in self.reader.format.written]
        self.told = ""

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Tell of what is new, as ``generate`` asks after every token; ends nothing by itself."""
        self._tell(self._certain(self.reader.answer_until(input_ids[0, self.width :].tolist())))
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    def finish(self, text: str) -> None:
        """Tell of the rest, now that the whole text is known."""
        self._tell(text)

    def _tell(self, text: str) -> None:
        if len(text) > len(self.told) and text.startswith(self.told):
            piece, self.told = text[len(self.told) :], text
            self.on_text(piece)

    def _certain(self, text: str) -> str:
        text = text.rstrip(INCOMPLETE)
        if not text.strip():
            # White space before reasoning is no part of the answer.
            return ""
        if self.tokenizer.clean_up_tokenization_spaces:
            # Such a tokenizer removes spaces before what comes next.
            text = text[: max(text.rfind(" "), 0)]
        return text[: len(text) - self._begun(text)]

    def _begun(self, text: str) -> int:
        """How many characters at the end begin a stop string, or a marker of reasoning where one counts."""
        held = [*self.stop]
        if self.reader.format.is_declared or len(text.strip()) < _LONGEST_MARKER:
            held += self._markers
        longest = max(map(len, held), default=1) - 1
        ends = (size for size in range(min(longest, len(text)), 0, -1))
        return next((size for size in ends if any(s.startswith(text[-size:]) for s in held)), 0)
