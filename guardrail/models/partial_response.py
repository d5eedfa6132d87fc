"""A response that is still being generated: its text so far, and its trace up to a token.

The trace of a prefix holds what the trace of the finished response will hold of it: nothing that follows
changes a state before it. So the score of a part that lies within the prefix is that of the finished
response, up to rounding.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

from guardrail.models.decoding import INCOMPLETE, token_texts
from guardrail.models.response import ResponseReader
from guardrail.models.trace import Trace, traces_of

if TYPE_CHECKING:
    from guardrail.models.generation import Run
    from guardrail.models.prompt import EncodedPrompt

__all__ = ["GrowthWatch", "PartialResponse"]


class PartialResponse:
    """What there is of a response after a token. Valid until the next one.

    Args:
        prompt: The prompt.
        reader: Reads responses to it.
        ids: Token ids of the response so far.
        run: Makes what a run leaves that ends here.
        suspended: A context in which the model may be run for something else.
    """

    def __init__(
        self,
        prompt: "EncodedPrompt",
        reader: ResponseReader,
        ids: Sequence[int],
        run: "Callable[[], Run]",
        suspended: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.ids = list(ids)
        self._prompt, self._reader, self._run, self._suspended = prompt, reader, run, suspended

    @property
    def reasons(self) -> bool:
        """Whether the model reasons, or has reasoned, before its answer."""
        if self._reader.opened:
            return True
        division = self._reader.divide(self.ids)
        return division.start > 0 or not division.is_closed

    @property
    def token_texts(self) -> list[str]:
        """The text of each token so far; what follows may complete the last."""
        return token_texts(self._reader.tokenizer, self.ids)

    @property
    def text(self) -> str:
        """The text so far that nothing which follows can change, cut before a stop string."""
        text = self._reader.answer_until(self.ids).rstrip(INCOMPLETE)
        if self._reader.tokenizer.clean_up_tokenization_spaces:
            # Such a tokenizer removes spaces before what comes next.
            text = text[: max(text.rfind(" "), 0)]
        stop = self._reader.stop
        longest = max(map(len, stop), default=1) - 1
        ends = range(min(longest, len(text)), 0, -1)
        held = next((size for size in ends if any(one.startswith(text[-size:]) for one in stop)), 0)
        return text[: len(text) - held]

    def text_until(self, token: int) -> str:
        """The text of the response's first tokens, as if it ended with them."""
        return self._reader.answer_until(self.ids[:token])

    @contextmanager
    def trace(self, model: str) -> Iterator[Trace]:
        """The trace of the response so far, as if it ended here, to be scored within the context.

        Args:
            model: Name of the model.

        Raises:
            GenerationError: The model gave logits that are not numbers.
        """
        # Before anything else is run: it may be that nothing else may be.
        run, read = self._run(), self._reader.read(self.ids)
        trace = traces_of(model, [self._prompt], run, [read], [None])[0]
        with self._suspended():
            try:
                yield trace
            finally:
                trace.release()


class GrowthWatch(StoppingCriteria):
    """Tells of a response after every token, and ends it where it is told to.

    Args:
        partial: Makes the partial response of all tokens so far (1 × columns, with the prompt).
        width: Columns of the prompt.
        on_growth: Told of each; says whether the response goes on.
    """

    def __init__(
        self,
        partial: Callable[[Tensor], PartialResponse],
        width: int,
        on_growth: Callable[[PartialResponse], bool],
    ) -> None:
        self.partial, self.width, self.on_growth = partial, width, on_growth

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Say whether the response ends, as ``generate`` asks after every token."""
        ends = not self.on_growth(self.partial(input_ids))
        return torch.full((len(input_ids),), ends, dtype=torch.bool, device=input_ids.device)
