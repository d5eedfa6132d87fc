"""Answers held to a grammar: before each token, those that the grammar does not allow are ruled out.

What is scored are the model's own probabilities, as if nothing had been ruled out.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor

from guardrail.errors import GenerationError, MissingDependencyError, OptionError
from guardrail.models.json_schema import closed
from guardrail.utils.threads import ForkSafeLock

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from guardrail.models.runnable_model import RunnableModel

__all__ = ["calls_grammar", "held_to", "json_grammar"]


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
        tools: The tools, as for :class:`~guardrail.models.generation_controls.GenerationControls`.
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
    """The ``processor`` of :class:`~guardrail.models.generation_controls.GenerationControls` for a grammar.

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
