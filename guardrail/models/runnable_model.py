"""A model ready to run: what generating, reading and scoring need to know of it, and how much it can read."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from guardrail.errors import ModelUnavailableError, PromptError, ResponseError
from guardrail.models.control_tokens import control_tokens
from guardrail.models.prompt import EncodedPrompt, written_end
from guardrail.models.replay.architecture import Anatomy, positions_of, predicting
from guardrail.models.trace import agree

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["ReadingLimits", "RunnableModel", "make_runnable", "sees_padding"]


# More than any vocabulary has.
_NO_TOKEN = 2**31


class RunnableModel(NamedTuple):
    """A model ready to run, with what is known of it.

    Attributes:
        model: The model; evaluation mode, every parameter frozen.
        tokenizer: Its tokenizer.
        anatomy: Its parts.
        plain_head: Whether its logits are the head's output as it is.
        returned: How many values its decoder layers return in a tuple; 0 where they return hidden states.
        end_ids: The tokens that end a response: those that the model's generation options name, the
            tokenizer's, and the one that the chat template ends a turn with.
        silent_ends: Those among them that are no text.
    """

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    anatomy: Anatomy
    plain_head: bool
    returned: int
    end_ids: tuple[int, ...]
    silent_ends: frozenset[int]


def make_runnable(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", anatomy: Anatomy
) -> RunnableModel:
    """Find out what generation and scoring need to know, at the price of one token through the model."""
    ends = _end_ids(model, tokenizer)
    silent = control_tokens(tokenizer).ids.intersection(ends)
    return RunnableModel(model, tokenizer, anatomy, *_tried(model, anatomy), ends, silent)


def _end_ids(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> tuple[int, ...]:
    """Whatever is known to end a response: many a fine-tuned model names its base model's end alone."""
    named: Any = model.generation_config.eos_token_id if model.generation_config else None
    several = named if isinstance(named, list | tuple) else [named]
    if not all(end is None or (type(end) is int and end < _NO_TOKEN) for end in several):
        raise ModelUnavailableError(
            f"generation_config.json: eos_token_id is {str(named)[:60]}, and should be a token id or a list "
            "of them; mend it, or fetch the model again"
        )
    # Some files say with −1 that there is none.
    ends = [end for end in [*several, tokenizer.eos_token_id] if end is not None and end >= 0]
    written = written_end(tokenizer, ends)
    return tuple(dict.fromkeys(ends if written is None else [*ends, written]))


@torch.no_grad()
def _tried(model: "PreTrainedModel", anatomy: Anatomy) -> tuple[bool, int]:
    """Whether the logits are the head's output as it is, and how many values a layer returns in a tuple."""
    before: list[Tensor] = []
    returned: list[int] = []

    def note_head(_module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> None:
        before.extend((output, output.clone()))

    def note_layer(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        returned.append(0 if isinstance(output, Tensor) else len(output))

    with ExitStack() as stack:
        stack.callback(anatomy.head.register_forward_hook(note_head).remove)
        stack.callback(anatomy.layers[0].register_forward_hook(note_layer).remove)
        token = torch.zeros(1, 1, dtype=torch.long, device=model.device)
        logits = model(input_ids=token, attention_mask=torch.ones_like(token), use_cache=False).logits
    output, value = before
    # The same memory may hold other numbers by now: some models scale or mask in place.
    plain = logits.data_ptr() == output.data_ptr() and torch.equal(logits.nan_to_num(), value.nan_to_num())
    return plain, returned[0]


# A convolution leaks over a few tokens; learned positions are off by as much as there is padding.
_PADDING, _TOKENS = 5, 6


@torch.no_grad()
def sees_padding(model: "PreTrainedModel", anatomy: Anatomy) -> bool:
    """Whether left padding changes what a model says; then prompts of unequal length are not batched.

    Args:
        model: The model.
        anatomy: Its parts.
    """
    embedding: Any = model.get_input_embeddings()
    size = int(embedding.weight.shape[0])
    tokens = torch.tensor([[(11 + 7 * at) % size for at in range(_TOKENS)]], device=model.device)
    padded = torch.cat([tokens.new_zeros(1, _PADDING), tokens], dim=1)
    mask = torch.ones_like(padded)
    mask[:, :_PADDING] = 0
    with predicting(anatomy.head, 1):
        alone = _logits(model, tokens, torch.ones_like(tokens))
        behind = _logits(model, padded, mask)
    return not agree(behind, alone)


def _logits(model: "PreTrainedModel", ids: Tensor, mask: Tensor) -> Tensor:
    output = model(input_ids=ids, attention_mask=mask, use_cache=False, **positions_of(model, mask, 0))
    logits: Tensor = output.logits
    return logits


# More than any answer has.
_UNBOUNDED = 2**31


@dataclass(frozen=True, slots=True)
class ReadingLimits:
    """The bounds of a model on prompts and responses.

    Attributes:
        name: What errors call the model.
        vocabulary_size: Number of token ids that it can read.
        context_length: Most tokens of a prompt and its response together; None where it does not say.
    """

    name: str
    vocabulary_size: int
    context_length: int | None

    def room(self, prompt: EncodedPrompt) -> int:
        """How many tokens of an answer fit behind a prompt.

        Raises:
            PromptError: The prompt is empty, has unknown token ids, or fills the context by itself.
        """
        if not prompt.ids:
            raise PromptError("The prompt has no tokens.")
        self._check_vocabulary(prompt.ids, "prompt", PromptError)
        if self.context_length is None:
            return _UNBOUNDED
        if len(prompt.ids) >= self.context_length:
            raise PromptError(
                f"The prompt has {len(prompt.ids):,} tokens and {self.name} reads {self.context_length:,} "
                "with the answer. Shorten the prompt, or choose a model with a longer context."
            )
        return self.context_length - len(prompt.ids)

    def check_response(self, prompt: EncodedPrompt, response: Sequence[int]) -> None:
        """See that a response can be read behind a prompt.

        Raises:
            PromptError: The prompt is empty, has unknown token ids, or is too long.
            ResponseError: Likewise for the response.
        """
        if not response:
            raise ResponseError("The response has no tokens, so there is nothing to score.")
        self._check_vocabulary(response, "response", ResponseError)
        room = self.room(prompt)
        if len(response) > room:
            raise ResponseError(
                f"Prompt and response have {len(prompt.ids) + len(response):,} tokens and {self.name} reads "
                f"{self.context_length:,}."
            )

    def _check_vocabulary(
        self, ids: Sequence[int], what: str, error: type[PromptError] | type[ResponseError]
    ) -> None:
        size = self.vocabulary_size
        for at, token in enumerate(ids):
            if not 0 <= token < size:
                raise error(f"Token {at} of the {what} is {token}; {self.name} knows ids 0 to {size - 1}.")
