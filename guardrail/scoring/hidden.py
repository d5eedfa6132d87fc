"""SemGrad: the gradient of the loss by the hidden states of the semantics-preserving token."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from guardrail.models.statistics import at_least_float32
from guardrail.scoring.options import Norm

if TYPE_CHECKING:
    from guardrail.models.replay import Differentiable


def semgrad(
    run: "Differentiable",
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
    run: "Differentiable",
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
