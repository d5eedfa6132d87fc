"""From response ids to text: the whole, and token by token."""

import re
from codecs import getincrementaldecoder
from collections.abc import Collection, Sequence
from itertools import groupby, pairwise, takewhile
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import StoppingCriteria

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# What decoders write for bytes that are no character, or not yet a whole one.
INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
# A byte as a token of its own, as Llama 2, Mistral and Gemma have them.
_BYTE = re.compile("<0x([0-9A-F]{2})>")
# The letters that stand for bytes in tokens of the GPT-2 kind: those that can be seen for themselves.
_SEEN = [*range(33, 127), *range(161, 173), *range(174, 256)]
_LETTERS = {chr(byte): byte for byte in _SEEN} | {
    chr(256 + at): byte for at, byte in enumerate(sorted({*range(256)}.difference(_SEEN)))
}
# A character has at most 4 bytes.
_LONGEST_CHARACTER = 4


def decode(
    tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], *, skip_special_tokens: bool = False
) -> str:
    """The text of one sequence of tokens, without a character that its end cuts in two.

    What follows adds to it and changes nothing: where a byte is missing, decoders of single bytes would give
    up all characters beside it.
    """
    ids = list(ids)
    text = str(tokenizer.decode(ids, skip_special_tokens=skip_special_tokens))
    if INCOMPLETE not in text:
        return text
    if skip_special_tokens:
        special = set(tokenizer.all_special_ids)
        ids = [token for token in ids if token not in special]
    tokens = [str(token) for token in tokenizer.convert_ids_to_tokens(ids)]
    if not any(map(_BYTE.fullmatch, tokens)):
        return text[:-1] if text.endswith(INCOMPLETE) and _cut_bytes(tokens) else text
    whole = ids[: len(ids) - _cut_bytes(tokens)]
    text = str(tokenizer.decode(whole))
    if INCOMPLETE not in text or not tokenizer.is_fast:
        return text
    decoder = tokenizer.backend_tokenizer.decoder
    return text if decoder is None else str(decoder.decode(_readable(tokens[: len(whole)])))


def _cut_bytes(tokens: Sequence[str]) -> int:
    """How many bytes at the end begin a character and do not end it."""
    utf8 = getincrementaldecoder("utf-8")("replace")
    single = any(map(_BYTE.fullmatch, tokens))
    for token in tokens[-_LONGEST_CHARACTER:]:
        byte = _BYTE.fullmatch(token)
        if byte:
            utf8.decode(bytes.fromhex(byte[1]))
        elif not single and all(letter in _LETTERS for letter in token):
            utf8.decode(bytes(_LETTERS[letter] for letter in token))
        else:
            utf8.reset()
    return len(utf8.getstate()[0])


def _readable(tokens: Sequence[str]) -> list[str]:
    """Tokens in which each byte belongs to a character, with a replacement for those that do not."""
    readable: list[str] = []
    for is_byte, run in groupby(tokens, key=lambda token: _BYTE.fullmatch(token) is not None):
        if not is_byte:
            readable += run
            continue
        for character in bytes.fromhex("".join(token[3:5] for token in run)).decode("utf-8", "replace"):
            replaced = character == INCOMPLETE
            readable += [character] if replaced else [f"<0x{byte:02X}>" for byte in character.encode()]
    return readable


def token_texts(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> list[str]:
    """The text of each token, such that together they spell the whole.

    A character that is spread over several tokens stands with the last of them; those before it are empty,
    and so are those of a character that is cut off.
    """
    texts: list[str] = []
    # Some tokenizers write a space only between tokens, so that decoding goes on from the character before.
    before = begin = 0
    for end in range(1, len(ids) + 1):
        context = decode(tokenizer, ids[before:begin])
        text = decode(tokenizer, ids[before:end])[len(context) :]
        texts.append(text)
        if text:
            before, begin = begin, end
    whole = decode(tokenizer, ids)
    return texts if "".join(texts) == whole else _shares(tokenizer, ids, whole)


def _shares(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], whole: str) -> list[str]:
    """The same for tokenizers that change what was there when more comes, as some do with white space."""
    ends = [0]
    for end in range(1, len(ids)):
        same = takewhile(
            lambda pair: pair[0] == pair[1], zip(decode(tokenizer, ids[:end]), whole, strict=False)
        )
        ends.append(max(ends[-1], sum(1 for _ in same)))
    return [whole[start:end] for start, end in pairwise([*ends, len(whole)])] if ids else []


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
