"""Products with weights that a run computed already, and a replay need not compute again.

Nearly all the arithmetic of a decoder layer is in its linear maps. Their outputs were there when the response
was generated; kept, they leave of the replay's forward pass only what lies between them (norms, rotations,
activations), and of its traffic with memory the backward half.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, autograd, nn

from guardrail.models.outputs import KeptOutputs
from guardrail.models.products import product

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
def watched(maps: Sequence[nn.Linear], outputs: KeptOutputs) -> Iterator[None]:
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
