"""From response ids to text: the whole, and token by token."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What decoders write for bytes that are no character, or not yet a whole one.
INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
# A character has at most 4 bytes: a longer run of undecodable tokens is broken text.
_LONGEST_CHARACTER = 4


def decode(
    tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], *, skip_special_tokens: bool = False
) -> str:
    """The text of one sequence of tokens."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens))


def token_texts(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> list[str]:
    """The text of each token, such that together they spell the whole.

    A character that is spread over several tokens stands with the last of them; those before it are empty.
    Decoding goes on from the token before, because some tokenizers write a space only between tokens.
    """
    texts: list[str] = []
    begin = 0
    for end in range(1, len(ids) + 1):
        context = ids[max(0, begin - 1) : begin]
        text = decode(tokenizer, [*context, *ids[begin:end]])
        text = text[len(decode(tokenizer, context)) :] if context else text
        if text.endswith(INCOMPLETE) and end < len(ids) and end - begin < _LONGEST_CHARACTER:
            texts.append("")
            continue
        texts.append(text)
        begin = end
    return texts


def response_text(
    tokenizer: "PreTrainedTokenizerBase",
    ids: Sequence[int],
    stop: Sequence[str] = (),
    silent_ends: Collection[int] = (),
) -> str:
    """The response without special tokens and the token that ends it, cut before the first stop string."""
    ids = ids[:-1] if ids and ids[-1] in silent_ends else ids
    text = decode(tokenizer, ids, skip_special_tokens=True)
    found = [at for at in (text.find(string) for string in stop) if at >= 0]
    return text[: min(found)] if found else text


def has_stop(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], stop: Sequence[str]) -> bool:
    """Whether a stop string stands in a response, written out or as a special token."""
    texts = [decode(tokenizer, ids, skip_special_tokens=skip) for skip in (True, False)] if stop else []
    return any(string in text for string in stop for text in texts)


class StopStrings(StoppingCriteria):
    """Ends each row of a batch at its first stop string, and knows where that was.

    Unlike transformers' own, it looks at the response alone (not at what the prompt ends with) and in its
    text (not in the spelling of single tokens). Without ``ends``, what a finished row is padded with could be
    taken for its response.

    Args:
        tokenizer: The tokenizer.
        stop: The strings.
        width: Columns of the prompt.
        rows: Rows of the batch.
    """

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", stop: Sequence[str], width: int, rows: int
    ) -> None:
        self.tokenizer, self.stop, self.width = tokenizer, stop, width
        self.ends: list[int | None] = [None] * rows

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Say of each row whether it has ended, as ``generate`` asks after every token."""
        for row, ids in enumerate(input_ids[:, self.width :].tolist()):
            if self.ends[row] is None and has_stop(self.tokenizer, ids, self.stop):
                self.ends[row] = len(ids)
        return torch.tensor([end is not None for end in self.ends], device=input_ids.device)
