"""What a generation leaves behind: the Trace, its token statistics and hidden states."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from guardrail.models.replay.caches import BatchActivations, CachedActivations, RowActivations

if TYPE_CHECKING:
    from guardrail.models.generation import Run
    from guardrail.models.prompt import EncodedPrompt
    from guardrail.models.response import ReadResponse

# Bounds the float32 copies made along the way, by cutting time. On a CPU they had best stay in its cache.
_CHUNK_ELEMENTS = 1 << 24
_CPU_CHUNK_ELEMENTS = 1 << 17


class TokenStatistics(NamedTuple):
    """Per response token, in nats, at temperature 1 (each B × T, float32 or float64)."""

    log_probabilities: Tensor
    entropies: Tensor
    log_normalizers: Tensor


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor in the precision of softmax, entropy and norms: float32, or float64 if it came in that."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def agree(tensor: Tensor, other: Tensor) -> bool:
    """Whether two results of the same computation differ by no more than rounding does in their dtype."""
    tolerance = {torch.float64: 1e-6, torch.float32: 1e-3}.get(tensor.dtype, 5e-2)
    tensor, other = at_least_float32(tensor), at_least_float32(other)
    # A NaN agrees with nothing.
    return bool((tensor - other).norm() <= tolerance * other.norm())


def token_statistics(logits: Iterator[Tensor], targets: Tensor) -> TokenStatistics:
    """Log-probability of each target and entropy of each distribution.

    Args:
        logits: Raw logits in consecutive pieces along time (each B × t × V).
        targets: The tokens that were taken (B × T).

    Returns:
        The statistics. Where logits hold NaN or +∞ they are NaN; −∞ (a masked token) has probability 0.
    """
    pieces: list[tuple[Tensor, Tensor, Tensor]] = []
    done = 0
    for piece in logits:
        limit = _CPU_CHUNK_ELEMENTS if piece.device.type == "cpu" else _CHUNK_ELEMENTS
        for part in piece.split(max(1, limit // (piece.shape[0] * piece.shape[2])), dim=1):
            raw = at_least_float32(part)
            normalizers = torch.logsumexp(raw, dim=-1)
            taken = targets[:, done : done + part.shape[1], None]
            chosen = raw.gather(-1, taken)[..., 0] - normalizers
            probabilities = (raw - normalizers[..., None]).exp_()
            # H = −Σ p log p = log Z − Σ p z
            entropies = normalizers - torch.linalg.vecdot(probabilities, raw)
            if entropies.isnan().any():
                # 0 · −∞ of a masked token is NaN; that of a broken model stays, because clamp keeps it.
                smallest = torch.finfo(raw.dtype).min
                entropies = normalizers - torch.linalg.vecdot(probabilities, raw.clamp(min=smallest))
            pieces.append((chosen, entropies, normalizers))
            done += part.shape[1]
    return TokenStatistics(*(torch.cat(column, dim=1) for column in zip(*pieces, strict=True)))


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
        kept: Where the cached activations that scoring needs are; None when there are none.
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
    kept: RowActivations | None = None
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
    def states(self) -> CachedActivations | None:
        """The cached activations, if they were not released yet."""
        return self.kept.batch.states if self.kept else None

    def release(self) -> None:
        """Let go of the cached activations; the last trace of the batch gives their memory back."""
        if self.kept:
            self.kept.batch.release(self.kept.row)
            self.kept = None


def traces_of(
    model: str,
    prompts: "Sequence[EncodedPrompt]",
    run: "Run",
    responses: "Sequence[ReadResponse]",
    reasons: Sequence[FinishReason | None],
) -> list[Trace]:
    """The traces of a batch, which share what the run kept.

    Args:
        model: Name of the model.
        prompts: The prompts.
        run: What came of them.
        responses: The responses, read.
        reasons: Why each of them ended.
    """
    batch = BatchActivations(run.states)
    log_probabilities, entropies = run.statistics.log_probabilities, run.statistics.entropies
    return [
        Trace(
            model=model,
            prompt_ids=prompt.ids,
            response_ids=response,
            text=responses[row].answer,
            token_texts=responses[row].token_texts,
            log_probabilities=log_probabilities[row, : len(response)].tolist(),
            entropies=entropies[row, : len(response)].tolist(),
            finish_reason=reasons[row],
            semantic_token=prompt.semantic_token,
            generate_s=run.seconds,
            hidden=run.hidden[row],
            kept=RowActivations(batch, row),
            reasoning=responses[row].reasoning,
            answer_start=responses[row].division.start,
            opens_reasoning=prompt.opens_reasoning,
        )
        for row, (prompt, response) in enumerate(zip(prompts, run.responses, strict=True))
    ]
