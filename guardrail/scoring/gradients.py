"""Gradients at the language-model head (ParaGrad, ExGrad), and of hidden states (SemGrad).

What is scored together is laid out as the backward pass wants it: responses, or segments of one. Why no
gradient by a weight is ever held: docs/explanation/method.md, "What need not be computed".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from guardrail.errors import ScoringError
from guardrail.models.replay.replay import Differentiable, product
from guardrail.models.trace import Trace, at_least_float32
from guardrail.scoring.options import Norm, ScoringOptions, Span
from guardrail.scoring.uncertainty import token_weights

if TYPE_CHECKING:
    from guardrail.models.replay.caches import CachedActivations


class HeadInputs(NamedTuple):
    """Where the head predicted response tokens: N positions, response after response.

    Attributes:
        final: What the head was given (N × d).
        logits: What the model answered (rows × V), and ``rows``, which of them are the N; None to compute
            them again from ``final``.
        rows: Indices into ``logits``; None for all of them.
        log_normalizers: Logarithm of the softmax denominators (N).
        targets: The tokens that were taken (N, on the CPU).
        lengths: How many positions each response has; they add up to N.
        weights: Factor of each position in the loss (N).
        even_weights: The same without entropies (N), for ExGrad; None if it is not wanted.
    """

    final: Tensor
    logits: Tensor | None
    rows: Tensor | None
    log_normalizers: Tensor
    targets: Tensor
    lengths: Sequence[int]
    weights: Tensor
    even_weights: Tensor | None


class ScoredSpan(NamedTuple):
    """The tokens of a response that one loss is made of; the tokens before them are given context."""

    trace: Trace
    span: Span


@dataclass(frozen=True, slots=True)
class Batch:
    """Parts to be scored in one backward pass, each in a row of its own.

    Attributes:
        parts: What is scored.
        states: The states to run.
        rows: Row of each part among them.
        columns: Column of each part's t*.
        others: Further columns of each part's prompt at which SemGrad is wanted.
        row_of: Row of each of the N predicted tokens, part after part.
        step_of: Step of each within its response.
        predictions: The same N positions as the head saw them.
    """

    parts: Sequence[ScoredSpan]
    states: "CachedActivations"
    rows: list[int]
    columns: list[int]
    others: list[range]
    row_of: Tensor
    step_of: Tensor
    predictions: HeadInputs

    @property
    def start(self) -> int:
        """The first column at which SemGrad is wanted of any part."""
        return min([*self.columns, *(others.start for others in self.others if others)])


def lay_out(traces: Sequence[Trace], options: ScoringOptions, positions: int = 0) -> Batch:
    """Lay out the traces of one kept batch, in the order given.

    Args:
        traces: The responses.
        options: How they are scored.
        positions: At how many of each prompt's last positions SemGrad is wanted besides t*.

    Raises:
        ScoringError: Their states were released.
    """
    states = _cached_activations(traces[0])
    parts = [ScoredSpan(trace, Span(trace.answer_start, len(trace.response_ids))) for trace in traces]
    rows = [trace.kept.row if trace.kept else 0 for trace in traces]
    return _laid_out(parts, states, rows, states, rows, options, positions)


def lay_out_segments(
    trace: Trace, spans: Sequence[Span], options: ScoringOptions, *, to_the_end: bool
) -> Batch:
    """Lay out segments of one response, which is repeated for them up to the end of the last one.

    Args:
        trace: The response.
        spans: Its segments.
        options: How they are scored.
        to_the_end: Repeat the whole response all the same.

    Raises:
        ScoringError: Its states were released.
    """
    kept = _cached_activations(trace)
    row = trace.kept.row if trace.kept else 0
    whole = to_the_end or not kept.kept_every_column
    tokens = len(trace.response_ids) if whole else max(span.end for span in spans)
    parts = [ScoredSpan(trace, span) for span in spans]
    states = kept.of_row(row, tokens, len(parts))
    return _laid_out(parts, states, list(range(len(parts))), kept, [row] * len(parts), options)


def _cached_activations(trace: Trace) -> "CachedActivations":
    if trace.states is None:
        raise ScoringError(
            "The states kept for this response were released before it was scored. Score it with "
            "release=False first, or read it again."
        )
    return trace.states


def _laid_out(
    parts: Sequence[ScoredSpan],
    states: "CachedActivations",
    rows: list[int],
    kept: "CachedActivations",
    kept_rows: list[int],
    options: ScoringOptions,
    positions: int = 0,
) -> Batch:
    """Lay out parts in ``rows`` of the states to run; they were predicted in ``kept_rows`` of those kept."""
    if kept.log_normalizers is None:
        raise ScoringError("The states of this response are not complete; read it again.")
    device, dtype = kept.final.device, kept.log_normalizers.dtype
    spans = [part.span for part in parts]
    lengths = [end - start for start, end in spans]
    height, width = kept.final.shape[:2]
    index = [row * width + step for row, span in zip(kept_rows, spans, strict=True) for step in range(*span)]
    kept_at = torch.tensor(index, device=device)
    row_of = torch.tensor(
        [row for row, n in zip(rows, lengths, strict=True) for _ in range(n)], device=device
    )
    weights = [
        weight for trace, span in parts for weight in token_weights(trace.entropies[slice(*span)], options)
    ]
    even = [1 / n if options.reduction == "mean" else 1.0 for n in lengths for _ in range(n)]
    predictions = HeadInputs(
        final=kept.final.flatten(0, 1)[kept_at],
        logits=None if kept.logits is None else kept.logits.flatten(0, 1),
        rows=None if index == list(range(height * width)) else kept_at,
        log_normalizers=kept.log_normalizers.flatten()[kept_at],
        targets=torch.tensor([token for trace, span in parts for token in trace.response_ids[slice(*span)]]),
        lengths=lengths,
        weights=torch.tensor(weights, dtype=dtype, device=device),
        even_weights=torch.tensor(even, dtype=dtype, device=device) if options.exgrad else None,
    )
    end = kept.prompt_width
    columns = [end + (options.semantic_token or part.trace.semantic_token) for part in parts]
    others = [range(end - min(positions, len(part.trace.prompt_ids)), end) for part in parts]
    return Batch(parts, states, rows, columns, others, row_of, kept_at % width, predictions)


# Gᵀ·H of a block should stay in the cache of a core; a device with its own memory wants larger products.
_CPU_BLOCK_BYTES = 5 << 19
_DEVICE_BLOCK_BYTES = 1 << 26
_ROWS_MULTIPLE = 64
# G itself (N × a part of the vocabulary) is made in larger pieces, bounded for long answers and batches.
_GRADIENT_ELEMENTS = 1 << 23


class HeadGradients(NamedTuple):
    """What the head says of each response.

    Attributes:
        by_input: Gradient of the summed losses by the head's input (N × d, float32 or float64).
        paragrad: Mean absolute (or root mean square) gradient by the head's weight, per response.
        exgrad: The same without entropy weights; empty if it was not wanted.
    """

    by_input: Tensor
    paragrad: list[float]
    exgrad: list[float]


def head_gradients(
    head: nn.Module,
    predictions: HeadInputs,
    norm: Norm,
    by_head_output: Tensor | None = None,
    embedding_gradients: Sequence[Tensor] | None = None,
) -> HeadGradients:
    """Gradients by the head's input and, in size, by its weight.

    Args:
        head: The head.
        predictions: What it predicted.
        norm: How the size of a gradient is measured.
        by_head_output: p − onehot led back through what the model does to the head's output (N × V), for a
            head that is not plain.
        embedding_gradients: Per response, a V × d gradient to be added to the weight's (a tied embedding).
    """
    final = predictions.final
    weight = _usable_weight(head)
    if weight is None:
        whole = by_head_output
        if whole is None:
            whole = unweighted_by_logits(head(final), predictions)
        return _with_foreign_head(head, predictions, norm, whole, embedding_gradients)
    blocks = _blocks_of_plain_head(weight, getattr(head, "bias", None), predictions)
    by_input = torch.zeros_like(at_least_float32(final))
    sizes = _Sizes(predictions, norm, len(weight), embedding_gradients)
    step = max(_ROWS_MULTIPLE, _GRADIENT_ELEMENTS // len(final))
    for low in range(0, len(weight), step):
        high = min(low + step, len(weight))
        gradient = blocks(low, high) if by_head_output is None else by_head_output[:, low:high]
        by_input += product(gradient.to(weight.dtype), weight[low:high])
        sizes.add(gradient, low)
    return HeadGradients(by_input * predictions.weights[:, None], *sizes.means())


def _with_foreign_head(
    head: nn.Module,
    predictions: HeadInputs,
    norm: Norm,
    by_head_output: Tensor,
    embedding_gradients: Sequence[Tensor] | None,
) -> HeadGradients:
    """The same for a head whose weight cannot be multiplied with here: autograd goes through the module."""
    with torch.enable_grad():
        leaf = predictions.final.detach().requires_grad_()
        output = head(leaf)
        (by_input,) = torch.autograd.grad(output, leaf, by_head_output.to(output.dtype))
    sizes = _Sizes(predictions, norm, by_head_output.shape[1], embedding_gradients)
    sizes.add(by_head_output, 0)
    by_input = at_least_float32(by_input) * predictions.weights[:, None]
    return HeadGradients(by_input, *sizes.means())


def unweighted_by_logits(logits: Tensor, predictions: HeadInputs) -> Tensor:
    """The gradient p − onehot for every position and the whole vocabulary (N × V)."""
    gradient = (at_least_float32(logits) - predictions.log_normalizers[:, None]).exp_()
    at = torch.arange(len(predictions.targets), device=gradient.device)
    gradient[at, predictions.targets.to(gradient.device)] -= 1
    return gradient


class _Sizes:
    """Sums up, block by block, the size of Gᵀ·H of each response, with and without entropy weights."""

    def __init__(
        self,
        predictions: HeadInputs,
        norm: Norm,
        vocabulary: int,
        embedding_gradients: Sequence[Tensor] | None,
    ) -> None:
        final = predictions.final
        # Single gradients are as small as 1e-9, which float16 does not know.
        self.dtype = torch.float32 if final.dtype == torch.float16 else final.dtype
        weights = [w for w in (predictions.weights, predictions.even_weights) if w is not None]
        self.sides = [(at_least_float32(final) * w[:, None]).to(self.dtype) for w in weights]
        self.norm, self.vocabulary, self.extra = norm, vocabulary, embedding_gradients
        ends = list(accumulate(predictions.lengths))
        self.spans = list(zip([0, *ends[:-1]], ends, strict=True))
        self.parts = [(side, i, span) for side in range(len(self.sides)) for i, span in enumerate(self.spans)]
        # One buffer for every block: a fresh one would be handed back to the system and faulted in each time.
        rows = min(_block_rows(final), vocabulary)
        self.buffer = torch.empty(rows, final.shape[1], dtype=self.dtype, device=final.device)
        self.sums: list[list[Tensor]] = [[] for _ in self.parts]
        self.sum_dtype = torch.float64 if self.dtype == torch.float64 else torch.float32

    def add(self, gradient: Tensor, low: int) -> None:
        """Add G of the vocabulary from ``low`` on (N × block)."""
        rows = len(self.buffer)
        for at, (side, response, (start, end)) in enumerate(self.parts):
            turned, right = gradient[start:end].to(self.dtype).T, self.sides[side][start:end]
            for first in range(0, len(turned), rows):
                part = turned[first : first + rows]
                out = torch.mm(part, right, out=self.buffer[: len(part)])
                if self.extra is not None and side == 0:
                    out += self.extra[response][low + first : low + first + len(part)]
                # A sum within a block keeps its precision; one float32 for all of V × d would lose 2 to 4 %.
                size = out.abs_() if self.norm == "l1" else out.square_()
                self.sums[at].append(size.sum(dtype=self.sum_dtype))

    def means(self) -> tuple[list[float], list[float]]:
        sums = torch.stack([torch.stack(blocks) for blocks in self.sums]).cpu().double().sum(1)
        sums = sums.view(len(self.sides), len(self.spans))
        means = sums / (self.vocabulary * self.buffer.shape[1])
        paragrad, *exgrad = (means if self.norm == "l1" else means.sqrt()).tolist()
        return paragrad, exgrad[0] if exgrad else []


def _blocks_of_plain_head(
    weight: Tensor, bias: Tensor | None, predictions: HeadInputs
) -> Callable[[int, int], Tensor]:
    """The gradient p − onehot of any block of the vocabulary, from kept logits or from the head's weight."""
    logits, rows, targets = predictions.logits, predictions.rows, predictions.targets

    def block(low: int, high: int) -> Tensor:
        if logits is None:
            part = None if bias is None else bias[low:high]
            raw = nn.functional.linear(predictions.final, weight[low:high], part)
        else:
            raw = logits[:, low:high] if rows is None else logits[:, low:high][rows]
        gradient = (at_least_float32(raw) - predictions.log_normalizers[:, None]).exp_()
        inside = ((targets >= low) & (targets < high)).nonzero()[:, 0]
        gradient[inside.to(gradient.device), (targets[inside] - low).to(gradient.device)] -= 1
        return gradient

    return block


def _usable_weight(head: nn.Module) -> Tensor | None:
    """The head's weight (V × d), unless it is quantised or not in memory."""
    if type(head) is not nn.Linear:
        return None
    in_memory = head.weight.is_floating_point() and head.weight.device.type != "meta"
    return head.weight if in_memory else None


def _block_rows(final: Tensor) -> int:
    target = _CPU_BLOCK_BYTES if final.device.type == "cpu" else _DEVICE_BLOCK_BYTES
    rows = target // (final.shape[1] * final.element_size())
    return max(_ROWS_MULTIPLE, rows // _ROWS_MULTIPLE * _ROWS_MULTIPLE)


def semgrad(
    run: Differentiable,
    by_final: Tensor,
    layers: Sequence[int],
    rows: Sequence[int],
    columns: Sequence[int],
    norm: Norm,
) -> list[float]:
    """Mean absolute (or root mean square) gradient by the inputs of ``layers`` at t*, over d and layers.

    Responses of a batch do not touch each other, so one backward pass gives every row its own gradients.

    Args:
        run: A forward pass with a graph.
        by_final: Gradient of the losses by ``run.final`` (B × T × d; zero where a row has ended).
        layers: Decoder layers to look at.
        rows: Row of each response.
        columns: Column of each response's t*.
        norm: How the size of a gradient is measured.

    Returns:
        One value for each response.
    """
    scale = _scale(by_final, run.final.dtype)
    sizes = [
        (here.abs() if norm == "l1" else here.square()).mean(-1).to(by_final.device)
        for here in gradients_at(run, by_final * scale, layers, rows, columns)
    ]
    means = torch.stack(sizes).mean(0)
    values = (means if norm == "l1" else means.sqrt()) / scale
    return [float(value) for value in values.tolist()]


def gradients_at(
    run: Differentiable,
    by_final: Tensor,
    layers: Sequence[int],
    rows: Sequence[int],
    columns: Sequence[int],
) -> list[Tensor]:
    """The gradient itself, by the input of each of ``layers`` at t* of each response (each R × d)."""
    # No .backward(): it would leave gradients behind. Each layer's is the total derivative.
    gradients = torch.autograd.grad(
        run.final, [run.inputs[layer] for layer in layers], by_final.to(run.final.dtype)
    )
    at = [column - run.start for column in columns]
    # Some models carry several streams of hidden states (B × S × streams × d).
    return [at_least_float32(gradient[list(rows), at]).flatten(1) for gradient in gradients]


def _scale(by_final: Tensor, dtype: torch.dtype) -> float:
    """A power of two that lifts gradients into the range of float16; 1 for every other dtype."""
    if dtype != torch.float16:
        return 1.0
    largest = float(by_final.abs().max())
    return float(2.0 ** torch.tensor(1 / largest).log2().round()) if largest > 0 else 1.0
