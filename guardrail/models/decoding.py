"""Decoding: how tokens are drawn, held to a grammar, streamed and stopped, and the text that they spell.

What is scored are the model's own probabilities, as if a grammar had ruled nothing out.
"""

import json
import re
from asyncio import CancelledError
from codecs import getincrementaldecoder
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise, takewhile
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor, StoppingCriteria, TemperatureLogitsWarper, TopPLogitsWarper

from guardrail.errors import GenerationError, MissingDependencyError, OptionError
from guardrail.models.json_schema import closed
from guardrail.models.sampling import Sampling
from guardrail.utils.text import text_before
from guardrail.utils.threads import ForkSafeLock

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from guardrail.models.partial_response import PartialResponse
    from guardrail.models.runnable_model import RunnableModel

__all__ = [
    "INCOMPLETE",
    "NO_CONTROLS",
    "CancelledError",
    "GenerationControls",
    "GoesOn",
    "StopStrings",
    "Tools",
    "calls_grammar",
    "decode",
    "drawn",
    "has_stop",
    "held_to",
    "json_grammar",
    "response_text",
    "token_texts",
]


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
    return text_before(decode(tokenizer, ids, skip_special_tokens=True), stop)


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


def drawn(sampling: Sampling) -> list[LogitsProcessor]:
    """What makes greedy decoding draw; nothing where it is greedy decoding that is wanted.

    Args:
        sampling: How to draw. Without a seed, the process's generator goes on.
    """
    if not sampling.temperature:
        return []
    narrowed: list[LogitsProcessor] = [TemperatureLogitsWarper(float(sampling.temperature))]
    if sampling.top_p < 1:
        narrowed.append(TopPLogitsWarper(sampling.top_p))
    return [*narrowed, _Draw(sampling.seed)]


class _Draw(LogitsProcessor):
    """Leaves one token of each row: one drawn from the row's distribution."""

    def __init__(self, seed: int | None) -> None:
        self._seed = seed
        self._generator: torch.Generator | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Zero for the token drawn, minus infinity for all others."""
        if self._generator is None and self._seed is not None:
            self._generator = torch.Generator(scores.device).manual_seed(self._seed)
        token = torch.multinomial(scores.softmax(dim=-1), num_samples=1, generator=self._generator)
        return torch.full_like(scores, -torch.inf).scatter_(1, token, 0.0)


Tools = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, eq=False)
class GenerationControls:
    """Tools, streaming, cancellation and constraints of a generation. The default is none, at no cost.

    Attributes:
        tools: Functions that the chat template shows to the model, each as ``{"type": "function",
            "function": {"name", "description", "parameters"}}``.
        on_text: Told of the text while it grows, by the thread that generates; for one prompt only. The
            pieces together are the text of the trace. What could still turn out to be part of a stop string,
            or of a character that is not whole, waits.
        goes_on: Asked after every token. Where it says no, ``CancelledError`` is raised, which is no
            ``Exception``: nothing takes it for a failure of the model.
        processor: Makes what changes the logits of one prompt's answer, such as :func:`held_to`.
        chat_template_kwargs: Arguments of the chat template, over those of the model.
        json_schema: What ``processor`` holds the answer to, for who has it generated elsewhere; None for
            anything else.
        must_call: Whether it holds the answer to a call of one of the tools; likewise.
        on_growth: Told of one prompt's response after every token; where it says no, the response ends.
    """

    tools: Tools = ()
    on_text: Callable[[str], None] | None = None
    goes_on: Callable[[], bool] | None = None
    processor: "Callable[[RunnableModel], LogitsProcessor] | None" = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    json_schema: Mapping[str, Any] | None = None
    must_call: bool = False
    on_growth: "Callable[[PartialResponse], bool] | None" = None

    @property
    def is_for_one(self) -> bool:
        """Whether it can only be given with a single prompt."""
        return any(one is not None for one in (self.on_text, self.on_growth, self.processor))


NO_CONTROLS = GenerationControls()


class GoesOn(StoppingCriteria):
    """Gives up a generation that nobody waits for any more."""

    def __init__(self, goes_on: Callable[[], bool]) -> None:
        self.goes_on = goes_on

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        """Raise if nobody waits; ends no row by itself."""
        if not self.goes_on():
            raise CancelledError
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


# As models mostly write it. With free white space, one that is not sure writes line after line of nothing.
_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_HERMES = "<tool_call>"
_GRAMMAR_LINES = re.compile(r"\n\s*\d+ \|")

_lock = ForkSafeLock()
_tokenizers: "WeakKeyDictionary[PreTrainedTokenizerBase, Any]" = WeakKeyDictionary()


def json_grammar(schema: Mapping[str, Any] | bool) -> str:
    """The grammar of JSON that fits a schema. Objects have the properties that it names, and no others."""
    return f"start: answer\nanswer: {_json(closed(schema))}"


def calls_grammar(
    tools: Sequence[Mapping[str, Any]], template: str, schema: Mapping[str, Any] | None = None
) -> str:
    """The grammar of a call of one of some tools, written as a chat template shows it to the model.

    Args:
        tools: The tools, as for :class:`GenerationControls`.
        template: The chat template.
        schema: What may be said in place of a call: JSON that fits it; None where a tool must be called.
    """
    hermes = _HERMES in template
    arguments = "arguments" if hermes or "arguments" in template else "parameters"
    calls = [_call(tool["function"], arguments, at) for at, tool in enumerate(tools)]
    if not hermes:
        others = [] if schema is None else [{"$id": "urn:answer", **closed(schema)}]
        return f"start: call\ncall: {_json({'anyOf': [*calls, *others]})}"
    called = f'"{_HERMES}\\n" call "\\n</tool_call>"\ncall: {_json({"anyOf": calls})}'
    if schema is None:
        return f"start: {called}"
    return f"start: called | answer\nanswer: {_json(closed(schema))}\ncalled: {called}"


def held_to(grammar: str, *, after_reasoning: bool = True) -> "Callable[[RunnableModel], LogitsProcessor]":
    """The ``processor`` of :class:`GenerationControls` for a grammar.

    Args:
        grammar: As llguidance reads it.
        after_reasoning: Where the prompt opens the model's reasoning, hold the answer alone to it.

    Raises:
        OptionError: It is none, or uses what llguidance does not know.
        MissingDependencyError: llguidance is not installed.
    """
    problem = _llguidance().LLMatcher.validate_grammar(grammar)
    if problem and not problem.startswith("WARNING"):
        # Without the lines of the grammar, which nobody but this file has written.
        why = _GRAMMAR_LINES.split(problem)[0].rpartition("failed to compile JSON schema: ")[2]
        raise OptionError(f"No answer can be held to this schema: {' '.join(why.split())}")
    return lambda runnable: _Held(runnable, grammar, after_reasoning=after_reasoning)


class _Held(LogitsProcessor):
    """Rules out tokens for one row."""

    def __init__(self, runnable: "RunnableModel", grammar: str, *, after_reasoning: bool) -> None:
        self.after_reasoning = after_reasoning
        tokenizer = _tokenizer(runnable)
        self._matcher = _llguidance().LLMatcher(tokenizer, grammar)
        self._check()
        # Not llguidance.torch, whose kernel is compiled in C++ when it is first called.
        from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

        self._fill, self._tokens = fill_next_token_bitmask, tokenizer.vocab_size
        self._bitmask = allocate_token_bitmask(1, self._tokens)
        self._began = False

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The logits, with those of tokens that cannot follow at minus infinity."""
        if self._began:
            self._matcher.consume_token(int(input_ids[0, -1]))
        self._began = True
        self._fill(self._matcher, self._bitmask)
        self._check()
        bits = np.unpackbits(self._bitmask[0].view(np.uint8), count=self._tokens, bitorder="little")
        # A model may have more logits than its tokenizer has tokens.
        ruled_out = torch.ones(scores.shape[-1], dtype=torch.bool)
        ruled_out[: len(bits)] = torch.from_numpy(bits)[: len(ruled_out)] == 0
        return scores.masked_fill(ruled_out.to(scores.device), -torch.inf)

    def _check(self) -> None:
        if self._matcher.is_error():
            raise GenerationError("the answer cannot be held to its grammar")


def _tokenizer(runnable: "RunnableModel") -> Any:
    _llguidance()
    from llguidance.hf import from_tokenizer

    tokenizer: Any = runnable.tokenizer
    with _lock:
        if tokenizer not in _tokenizers:
            _tokenizers[tokenizer] = from_tokenizer(tokenizer, eos_token=list(runnable.end_ids) or None)
        return _tokenizers[tokenizer]


def _call(function: Mapping[str, Any], arguments: str, number: int) -> dict[str, Any]:
    accepts = function.get("parameters") or {"type": "object", "properties": {}}
    # A document of its own within the whole, in which what it refers to is found where it says.
    accepts = {"$id": f"urn:tool:{number}", **closed(accepts)}
    properties = {"name": {"const": function["name"]}, arguments: accepts}
    return {
        "type": "object",
        "properties": properties,
        "required": ["name", arguments],
        "additionalProperties": False,
    }


def _json(schema: Any) -> str:
    _llguidance()
    if schema is False:
        raise OptionError("No answer can be held to this schema: nothing fits it.")
    return f"%json {json.dumps({**({} if schema is True else schema), 'x-guidance': _STYLE})}"


def _llguidance() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise MissingDependencyError(
            'Holding answers to a schema needs llguidance: pip install "guardrail-llm[agents]"'
        ) from error
    return llguidance
