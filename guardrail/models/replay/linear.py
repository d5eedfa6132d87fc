"""Linear layers during a replay: known outputs are not computed again, small products use all cores."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, autograd, nn

from guardrail.models.replay.caches import CachedOutputs

# With more rows, or a smaller weight, the library's own way of sharing a product out is as fast or faster.
_MOST_ROWS = 128
_SMALLEST_WEIGHT_BYTES = 2**20


def product(rows: Tensor, weight: Tensor) -> Tensor:
    """The product of some rows with a weight.

    BLAS hardly parallelises a product with some twenty rows. Splitting it along the summed dimension, one
    part for each thread, does: 1.2 to 1.5 times as fast with two threads and 18 to 22 rows in float32.

    Args:
        rows: The rows (… × K).
        weight: The weight (K × N).

    Returns:
        Their product (… × N).
    """
    flat = rows.reshape(-1, rows.shape[-1])
    parts = torch.get_num_threads()
    shared = (
        parts > 1
        and rows.device.type == "cpu"
        and rows.dtype == weight.dtype == torch.float32
        and flat.shape[0] <= _MOST_ROWS
        and weight.nbytes >= _SMALLEST_WEIGHT_BYTES
        and len(weight) % parts == 0
    )
    if not shared:
        return rows @ weight
    by_part = flat.view(flat.shape[0], parts, -1).transpose(0, 1)
    sums = torch.bmm(by_part, weight.view(parts, -1, weight.shape[1]))
    return sums.sum(0).view(*rows.shape[:-1], -1)


# A smaller weight is multiplied again sooner than its outputs are kept and put together.
SMALLEST_WEIGHT_BYTES = 2**18


def linear_maps(layers: Sequence[nn.Module]) -> list[nn.Linear]:
    """The linear maps within these layers whose weight is an ordinary tensor in memory."""
    return [
        module
        for layer in layers
        for module in layer.modules()
        if type(module) is nn.Linear
        and module.weight.is_floating_point()
        and module.weight.device.type != "meta"
        and module.weight.nbytes >= SMALLEST_WEIGHT_BYTES
        and "forward" not in module.__dict__  # accelerate moves the weights of such a module in and out
    ]


@contextmanager
def watched(maps: Sequence[nn.Linear], outputs: CachedOutputs) -> Iterator[None]:
    """Keep what linear maps give while the context is open."""

    def watching(module: nn.Linear) -> Callable[[Tensor], Tensor]:
        linear, weight, bias = nn.functional.linear, module.weight, module.bias
        keep = outputs.keep

        def first(states: Tensor) -> Tensor:
            output = linear(states, weight, bias)
            outputs.add(module, output)
            vars(module)["forward"] = forward
            return output

        def forward(states: Tensor) -> Tensor:
            output = linear(states, weight, bias)
            keep((module, output))
            return output

        return first

    # A replaced forward costs less than a hook, and this runs for every map and token.
    with _forwards({module: watching(module) for module in maps}):
        yield


class _Remembered(autograd.Function):
    """A linear map whose output is known: nothing is multiplied forward, the gradient is led back as ever."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, output: Tensor) -> Tensor:
        ctx.weight = weight
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return product(grads[0], ctx.weight), None, None


_remember: Callable[..., Tensor] = _Remembered.apply


@contextmanager
def remembered(outputs: Mapping[nn.Linear, Tensor]) -> Iterator[None]:
    """Let linear maps answer with these outputs instead of multiplying."""

    def answering(module: nn.Linear, output: Tensor) -> Callable[[Tensor], Tensor]:
        def forward(states: Tensor) -> Tensor:
            if states.shape[:-1] != output.shape[:-1]:  # it looks at other columns now than it did then
                return nn.functional.linear(states, module.weight, module.bias)
            return _remember(states, module.weight, output)

        return forward

    with _forwards({module: answering(module, output) for module, output in outputs.items()}):
        yield


@contextmanager
def _forwards(replacements: Mapping[nn.Linear, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    for module, forward in replacements.items():
        # Not by setattr, in which a module looks for parameters.
        vars(module)["forward"] = forward
    try:
        yield
    finally:
        for module in replacements:
            del vars(module)["forward"]
