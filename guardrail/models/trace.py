"""What a run of the model leaves behind: the Trace, and the states kept for scoring it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, Self

from torch import Tensor, nn
from transformers import Cache

from guardrail.models.kv_cache import cache_of_row

FinishReason = Literal["stop", "length", "reasoning_length"]


class Usage(NamedTuple):
    """Tokens read and written; what was thought was written too."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        """Tokens read and written together."""
        return self.prompt_tokens + self.completion_tokens


class HiddenSummary(NamedTuple):
    """The input of one decoder layer over an answer: two float vectors of size d.

    Both are taken where the answer was predicted: the positions from the last token before it to the one
    before its own last, so that an answer of one token has a summary too.
    """

    mean: Tensor
    last: Tensor


@dataclass(slots=True)
class KeptStates:
    """What a batch of responses left on the device, so that scoring need not run the model again.

    Columns are positions of the left-padded batch: prompts end at column ``prompt_width``, responses start
    there. The last response token is never fed to the model, so there are ``prompt_width + T − 1`` columns,
    with T the longest response of the batch.

    Attributes:
        ids: Token ids fed to the model (B × columns).
        mask: 1 where a column holds a token of its row, 0 where it pads (B × columns).
        prompt_width: Column at which every response starts.
        cache: Keys and values of every column; None where the architecture keeps something else.
        layer: The decoder layer whose inputs were kept.
        entering: Inputs of that layer in the columns from ``entering_from`` on (B × … × d).
        entering_from: First column of ``entering``.
        outputs: What linear maps and attention gave from that layer on, in the same columns (each B × … × out
            or heads × D); what is missing is computed again.
        final: What the head was given where each response token was predicted (B × T × d).
        logits: What the model answered there (B × T × V), as raw logits; None where they took too much room
            and the head alone gives them again.
        log_normalizers: Logarithm of the softmax denominator of those logits (B × T).
        plain_head: Whether the model's logits are the head's output as it is (no soft-capping, no scaling).
        returned: How many values a decoder layer returns in a tuple; 0 where it returns hidden states.
    """

    ids: Tensor
    mask: Tensor
    prompt_width: int
    cache: Cache | None
    layer: int
    entering: Tensor
    entering_from: int
    outputs: Mapping[nn.Module, Tensor]
    final: Tensor
    logits: Tensor | None
    log_normalizers: Tensor | None
    plain_head: bool
    returned: int

    @property
    def columns(self) -> int:
        """Number of columns fed to the model."""
        return int(self.ids.shape[1])

    @property
    def kept_every_column(self) -> bool:
        """Whether ``entering`` is what it seems: some models drop columns of a prompt on the way up."""
        return int(self.entering.shape[1]) == self.columns - self.entering_from

    def of_row(self, row: int, tokens: int, copies: int) -> Self:
        """View one row up to where its first ``tokens`` response tokens were predicted, as often as wanted.

        Logits are left out: there is no view of them that a head could use.
        """
        columns = self.prompt_width + tokens - 1
        kept = columns - self.entering_from

        def view(tensor: Tensor, length: int) -> Tensor:
            return tensor[row : row + 1, :length].expand(copies, *(-1 for _ in tensor.shape[1:]))

        return replace(
            self,
            ids=view(self.ids, columns),
            mask=view(self.mask, columns),
            cache=cache_of_row(self.cache, row, copies),
            entering=view(self.entering, kept),
            outputs={module: view(output, kept) for module, output in self.outputs.items()},
            final=view(self.final, tokens),
            logits=None,
            log_normalizers=None,
        )


class KeptBatch:
    """Shared by the traces of one batch; empty once every one of them was released."""

    __slots__ = ("_waiting", "states")

    def __init__(self, states: KeptStates) -> None:
        self.states: KeptStates | None = states
        self._waiting = set(range(states.ids.shape[0]))

    def release(self, row: int) -> None:
        """Say that one row is done with; the last one gives the memory back."""
        self._waiting.discard(row)
        if not self._waiting:
            self.states = None


class Kept(NamedTuple):
    """One trace's place among the kept states of its batch."""

    batch: KeptBatch
    row: int


@dataclass(slots=True)
class Trace:
    """A prompt, the response that followed it, and what the model thought of each token.

    A response is what the model wrote; where it reasoned first, the answer is what came after. See
    :mod:`guardrail.models.reasoning`.

    Attributes:
        model: Name of the model that ran.
        prompt_ids: Token ids of the prompt.
        response_ids: Token ids of the response, with the end-of-turn token if it was generated.
        text: The answer as text, without special tokens and cut before a stop string; empty where the
            response ended in its reasoning.
        token_texts: The text of each response token; together they spell the response.
        log_probabilities: Log-probability (nats) of each response token at temperature 1.
        entropies: Entropy (nats) of the distribution that each response token was taken from.
        finish_reason: ``stop`` (end of turn or stop string), ``length``, ``reasoning_length`` (it ended in
            its reasoning, and there is no answer), or None where it is not known.
        semantic_token: Position of the semantics-preserving token t*, counted from the end of the prompt
            (−1 is its last token), by the rule for models that were never scanned.
        generate_s: Seconds that the batch of this response took to generate or to read.
        hidden: Hidden-state summaries by decoder layer, where they were asked for.
        kept: Where the states needed for scoring are; None when none were kept.
        reasoning: What was thought before the answer, as text.
        answer_start: The answer's first token; the number of tokens where there is no answer.
        opens_reasoning: Whether the prompt opened the reasoning.
    """

    model: str
    prompt_ids: list[int]
    response_ids: list[int]
    text: str
    token_texts: list[str]
    log_probabilities: list[float]
    entropies: list[float]
    finish_reason: FinishReason | None
    semantic_token: int
    generate_s: float
    hidden: Mapping[int, HiddenSummary] = field(default_factory=dict)
    kept: Kept | None = None
    reasoning: str = ""
    answer_start: int = 0
    opens_reasoning: bool = False

    @property
    def usage(self) -> Usage:
        """Tokens read and written for this response."""
        return Usage(len(self.prompt_ids), len(self.response_ids))

    @property
    def token_counts(self) -> dict[str, int]:
        """The usage by name, with its sum; and of reasoning, where there was any."""
        usage = self.usage
        reasoning = {"reasoning_tokens": self.answer_start} if self.answer_start else {}
        return {**usage._asdict(), **reasoning, "total_tokens": usage.total_tokens}

    @property
    def has_answer(self) -> bool:
        """Whether the response came to an answer, of whatever text."""
        return self.answer_start < len(self.response_ids)

    @property
    def answer_ids(self) -> list[int]:
        """The tokens of the answer."""
        return self.response_ids[self.answer_start :]

    @property
    def answer_texts(self) -> list[str]:
        """The text of each token of the answer."""
        return self.token_texts[self.answer_start :]

    def ended(self, given: "FinishReason | None") -> "FinishReason | None":
        """Why the response ended, with what is said of it; that it ended in its reasoning is seen."""
        return self.finish_reason if self.finish_reason == "reasoning_length" else given or self.finish_reason

    @property
    def states(self) -> KeptStates | None:
        """The kept states, if they were not released yet."""
        return self.kept.batch.states if self.kept else None

    def release(self) -> None:
        """Let go of the kept states; their memory is given back with the last trace of the batch."""
        if self.kept:
            self.kept.batch.release(self.kept.row)
            self.kept = None
