"""A response as token ids: what of it is reasoning, what is the answer, and its text as a stream."""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria

from guardrail.errors import PromptError, ResponseError
from guardrail.models.control_tokens import Region, encode_with
from guardrail.models.decoding import INCOMPLETE, decode, has_stop, response_text, token_texts
from guardrail.models.prompt import EncodedPrompt, end_of_turn, up_to_end, without_end
from guardrail.models.reasoning import (
    DEFAULT_REASONING_TOKENS,
    Division,
    ReasoningFormat,
    reasoning_format,
)
from guardrail.models.sampling import Sampling
from guardrail.utils.json_lines import is_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from guardrail.models.trace import FinishReason

__all__ = [
    "AfterReasoning",
    "AnswerLimits",
    "ReadResponse",
    "ResponseReader",
    "TextStream",
    "encode_response",
    "finish_reason",
    "read_reason",
    "token_budget",
]


# Tokens that are looked at to see whether a model that is not known to reason does: markers are short.
_BEGINNING = 16


class ReadResponse(NamedTuple):
    """A response, read.

    Attributes:
        division: Where its answer begins.
        reasoning: What was thought, as text.
        answer: The answer as text, cut before a stop string.
        token_texts: The text of each token.
    """

    division: Division
    reasoning: str
    answer: str
    token_texts: list[str]


class ResponseReader:
    """Reads the responses to one prompt.

    Args:
        tokenizer: The tokenizer.
        stop: Strings that end an answer.
        silent_ends: Tokens that end a response and are no part of its text.
        opened: Whether the prompt opened the reasoning.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        stop: Sequence[str] = (),
        silent_ends: Collection[int] = (),
        *,
        opened: bool = False,
    ) -> None:
        self.tokenizer, self.stop, self.opened = tokenizer, stop, opened
        self.silent_ends = silent_ends
        self.format: ReasoningFormat = reasoning_format(tokenizer)

    def divide(self, ids: Sequence[int]) -> Division:
        """Where the answer begins."""
        if not self._may_reason(ids):
            return Division()
        return self.format.divide(ids, lambda: token_texts(self.tokenizer, ids), opened=self.opened)

    def read(self, ids: Sequence[int]) -> ReadResponse:
        """Read a response that is at its end."""
        texts = token_texts(self.tokenizer, ids)
        if not self._may_reason(ids):
            return ReadResponse(Division(), "", self._said(ids), texts)
        division = self.format.divide(ids, lambda: texts, opened=self.opened)
        if division.start == 0 and not self.format.channels:
            return ReadResponse(division, "", self._said(ids), texts)
        return ReadResponse(division, self._reasoning(ids, division), self._answer(ids, division), texts)

    def answer_until(self, ids: Sequence[int]) -> str:
        """The text of the answer in a response that may go on; empty while it reasons."""
        if not self._may_reason(ids):
            return self._said(ids)
        if self.format.channels and not self._text(ids).count("<|channel|>") and not self.opened:
            # The header of the first message is not an answer.
            return ""
        progress = self.format.progress(ids, lambda: self._text(ids), opened=self.opened)
        if progress.is_reasoning:
            return ""
        if progress.start == 0:
            return self._said(ids)
        if progress.start is not None:
            return self._said(ids[progress.start :]).lstrip()
        return self._answer(ids, self.divide(ids))

    def _may_reason(self, ids: Sequence[int]) -> bool:
        if self.format.is_declared or self.opened:
            return True
        return self.format.may_reason(self._text(ids[:_BEGINNING]))

    def _said(self, ids: Sequence[int]) -> str:
        return response_text(self.tokenizer, ids, self.stop, self.silent_ends)

    def _text(self, ids: Sequence[int]) -> str:
        return decode(self.tokenizer, ids)

    def _answer(self, ids: Sequence[int], division: Division) -> str:
        if not division.is_closed:
            return ""
        if self.format.channels:
            split = self.format.split(self._text(ids), opened=self.opened)
            if split.at or split.calls:
                # An answer that is nothing but calls says who is called with what.
                answer = split.answer or "\n".join(f"{call.recipient} {call.content}" for call in split.calls)
                found = [at for at in (answer.find(string) for string in self.stop) if at >= 0]
                return answer[: min(found)] if found else answer
            return self._said(ids)
        text = self._said(ids[division.start :])
        return text[division.offset :].lstrip()

    def _reasoning(self, ids: Sequence[int], division: Division) -> str:
        if division.start == 0:
            return ""
        if self.format.tokens and not self.format.channels:
            markers = {token for pair in self.format.tokens for token in pair}
            thought = [token for token in ids[: division.start] if token not in markers]
            return decode(self.tokenizer, thought, skip_special_tokens=True).strip()
        return self.format.split(self._text(ids), opened=self.opened).reasoning


class AfterReasoning(LogitsProcessor):
    """Leaves the logits alone until the reasoning that a prompt opened is closed.

    Args:
        inner: Changes the logits of the answer.
        reader: Reads the response.
        width: Columns of the prompt.
    """

    def __init__(self, inner: LogitsProcessor, reader: ResponseReader, width: int) -> None:
        self.inner, self.reader, self.width = inner, reader, width

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The logits, as the inner processor has them once the model answers."""
        ids = input_ids[0, self.width :].tolist()
        reader = self.reader
        progress = reader.format.progress(ids, lambda: decode(reader.tokenizer, ids), opened=reader.opened)
        return scores if progress.is_reasoning else self.inner(input_ids, scores)


class AnswerLimits(StoppingCriteria):
    """Ends each row of a batch where its reasoning, or its answer, has used up its tokens or stops.

    Args:
        readers: The reader of each row.
        width: Columns of the prompt.
        max_tokens: Most tokens of an answer.
        max_reasoning_tokens: Most tokens of what comes before it.
    """

    def __init__(
        self, readers: Sequence[ResponseReader], width: int, max_tokens: int, max_reasoning_tokens: int
    ) -> None:
        self.readers, self.width = readers, width
        self.max_tokens, self.max_reasoning_tokens = max_tokens, max_reasoning_tokens
        self.ends: list[int | None] = [None] * len(readers)
        # How many tokens each row has before its answer; None while it reasons.
        self._begun: list[int | None] = [0] * len(readers)

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Say of each row whether it has ended, as ``generate`` asks after every token."""
        for row, ids in enumerate(input_ids[:, self.width :].tolist()):
            if self.ends[row] is None and self._has_ended(row, ids):
                self.ends[row] = len(ids)
        return torch.tensor([end is not None for end in self.ends], device=input_ids.device)

    def _has_ended(self, row: int, ids: list[int]) -> bool:
        reader = self.readers[row]
        progress = reader.format.progress(ids, lambda: decode(reader.tokenizer, ids), opened=reader.opened)
        if progress.is_reasoning:
            self._begun[row] = None
            return len(ids) >= self.max_reasoning_tokens
        if progress.start == 0:
            self._begun[row] = 0
        else:
            self._begun[row] = self._begin(row, ids, progress.start, progress.answer)
        begun = self._begun[row]
        if begun is None:
            return False
        return len(ids) - begun >= self.max_tokens or has_stop(reader.tokenizer, ids[begun:], reader.stop)

    def _begin(self, row: int, ids: list[int], start: int | None, answer: str | None) -> int | None:
        """Where the answer began: white space behind the reasoning is no part of it."""
        begun = self._begun[row]
        if begun:
            return begun
        text = answer if start is None else decode(self.readers[row].tokenizer, ids[start:])
        return len(ids) - 1 if text and text.strip() else None


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


def encode_response(
    tokenizer: "PreTrainedTokenizerBase",
    response: str | Sequence[int],
    end_ids: Sequence[int],
    finish_reason: "FinishReason | None" = None,
) -> list[int]:
    """Token ids of a response; see :meth:`guardrail.models.local.LocalModel.encode_response`."""
    if not isinstance(response, str):
        return up_to_end(tokenizer, response, end_ids)
    if not is_text(response):
        raise ResponseError("The response holds half of a surrogate pair, which is no character.")
    text, end = without_end(tokenizer, response, end_ids)
    try:
        ids = encode_with(tokenizer, text, _words(tokenizer, text))
    except PromptError as error:
        raise ResponseError(str(error)) from error
    if end is None and finish_reason not in ("length", "reasoning_length"):
        end = end_of_turn(tokenizer, end_ids)
        if end is None and finish_reason == "stop":
            end = next(iter(end_ids), None)
    return ids if not ids or end is None else [*ids, end]


def _words(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[Region]:
    """What of a response's text can be no control token: all but the markers of its reasoning."""
    markers = reasoning_format(tokenizer).spelled_in(text)
    ends = [0, *(end for marker in markers for end in marker), len(text)]
    return [Region(*region) for region in zip(ends[::2], ends[1::2], strict=True) if region[0] < region[1]]


def token_budget(
    tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[EncodedPrompt], sampling: Sampling
) -> tuple[int, int | None]:
    """Most tokens of a response, and most of its answer where the model may reason before it."""
    reasons = reasoning_format(tokenizer).is_declared or any(prompt.opens_reasoning for prompt in prompts)
    if not reasons or sampling.ignore_end:
        return sampling.max_tokens, None
    thoughts = sampling.max_reasoning_tokens or DEFAULT_REASONING_TOKENS
    return sampling.max_tokens + thoughts, sampling.max_tokens


def finish_reason(
    reader: ResponseReader,
    response: Sequence[int],
    end_ids: Sequence[int],
    sampling: Sampling,
    *,
    reads_answer: bool,
) -> "FinishReason":
    """Why a generated response ended.

    Args:
        reader: Reads the responses to its prompt.
        response: Its token ids.
        end_ids: The tokens that end a response.
        sampling: How it was drawn; its ``max_tokens`` are those of the whole response.
        reads_answer: Whether the answer was counted by itself, and ended before the whole was that long.
    """
    division = reader.divide(response)
    if not division.is_closed:
        return "reasoning_length"
    cut_off = reads_answer or len(response) >= sampling.max_tokens
    if response[-1] in end_ids or not cut_off:
        return "stop"
    return "stop" if has_stop(reader.tokenizer, response[division.start :], sampling.stop) else "length"


def read_reason(
    reader: ResponseReader, response: Sequence[int], end_ids: Sequence[int]
) -> "FinishReason | None":
    """Why a response of elsewhere ended, as far as its tokens tell."""
    if not reader.divide(response).is_closed:
        return "reasoning_length"
    return "stop" if response[-1] in end_ids else None
