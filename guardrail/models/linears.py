"""Products with weights that a run computed already, and a replay need not compute again.

Nearly all the arithmetic of a decoder layer is in its linear maps. Their outputs were there when the response
was generated; kept, they leave of the replay's forward pass only what lies between them (norms, rotations,
attention, activations), and of its traffic with memory the backward half.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# A smaller weight is multiplied again sooner than its outputs are kept and put together.
SMALLEST_WEIGHT_BYTES = 2**20
# More than this is not kept: a long answer is replayed in full, which costs it little in proportion.
OUTPUTS_BUDGET_BYTES = 256 * 2**20

# Each output, and how often it had been written to when it was kept.
Kept = dict[nn.Linear, list[tuple[Tensor, int]]]


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


class LinearOutputs:
    """The outputs of linear maps over the passes of a run, until they take too much room.

    Args:
        maps: The linear maps to watch.
        tail: How many columns of the first pass are kept.
    """

    def __init__(self, maps: Sequence[nn.Linear], tail: int) -> None:
        self.tail = tail
        self.kept: Kept | None = {module: [] for module in maps}
        self._bytes = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Keep what the maps give while the context is open."""
        maps = list(self.kept or ())
        # A replaced forward costs less than a hook, and this runs for every map and token; mypy has no way
        # to say that an instance may have a forward of its own.
        for module in maps:
            module.forward = self._watched(module)  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            for module in maps:
                del module.forward

    def joined(self, states: Sequence[Tensor], passes: int) -> Mapping[nn.Linear, Tensor]:
        """What each map gave over the first ``passes`` passes, along time (B × columns × out).

        A map that was not called exactly once in each (an expert of a mixture, a block that is used twice),
        whose columns are not positions, or whose output was written to afterwards, is left out.

        Args:
            states: Hidden states of all passes, whose rows and columns these outputs have to have.
            passes: How many passes are wanted.
        """
        shapes = [piece.shape[:2] for piece in states]
        return {
            module: torch.cat([output for output, _ in outputs[:passes]], dim=1)
            for module, outputs in (self.kept or {}).items()
            if [output.shape[:-1] for output, _ in outputs] == shapes
            and all(output._version == version for output, version in outputs)
        }

    def _watched(self, module: nn.Linear) -> Callable[[Tensor], Tensor]:
        outputs = self.kept[module] if self.kept is not None else []
        weight, bias = module.weight, module.bias

        def watched(states: Tensor) -> Tensor:
            output = nn.functional.linear(states, weight, bias)
            if self.kept is not None:
                last = output if output.shape[1] <= self.tail else output[:, -self.tail :].clone()
                outputs.append((last, last._version))
                self._bytes += last.nbytes
                if self._bytes > OUTPUTS_BUDGET_BYTES:
                    self.kept = None
            return output

        return watched


class _Remembered(torch.autograd.Function):
    """A linear map whose output is known: nothing is multiplied forward, the gradient is led back as ever."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, output: Tensor) -> Tensor:
        ctx.weight = weight
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0] @ ctx.weight, None, None


_remember: Callable[..., Tensor] = _Remembered.apply


@contextmanager
def remembered(outputs: Mapping[nn.Linear, Tensor]) -> Iterator[None]:
    """Let linear maps answer with these outputs instead of multiplying."""

    def answer(module: nn.Linear, output: Tensor) -> Callable[[Tensor], Tensor]:
        def forward(states: Tensor) -> Tensor:
            if states.shape[:-1] != output.shape[:-1]:  # it looks at other columns now than it did then
                return nn.functional.linear(states, module.weight, module.bias)
            return _remember(states, module.weight, output)

        return forward

    for module, output in outputs.items():
        # As above: an instance's own forward.
        module.forward = answer(module, output)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        for module in outputs:
            del module.forward
