"""What a model can read: the ids of its vocabulary, and as many tokens as its context holds."""

from collections.abc import Sequence
from dataclasses import dataclass

from guardrail.errors import PromptError, ResponseError
from guardrail.models.prompt import EncodedPrompt

__all__ = ["ReadingLimits"]

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
