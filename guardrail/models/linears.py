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

# Passes of one token that find room in one piece of memory: kept one by one, their outputs would have to be
# put together in the end.
_PASSES_PER_PIECE = 16


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
        self._outputs: dict[nn.Linear, _Output] | None = {module: _Output(module, tail) for module in maps}
        self._bytes = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Keep what the maps give while the context is open."""
        outputs = self._outputs or {}
        # A replaced forward costs less than a hook, and this runs for every map and token; mypy has no way
        # to say that an instance may have a forward of its own.
        for module, output in outputs.items():
            module.forward = self._watched(module, output)  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            for module in outputs:
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
        outputs = (self._outputs or {}).items()
        return {module: output.joined(passes) for module, output in outputs if output.is_of(shapes)}

    def _watched(self, module: nn.Linear, output: "_Output") -> Callable[[Tensor], Tensor]:
        def watched(states: Tensor) -> Tensor:
            if self._outputs is None:
                return nn.functional.linear(states, module.weight, module.bias)
            answer, grown = output.of(states)
            self._bytes += grown
            if self._bytes > OUTPUTS_BUDGET_BYTES:
                self._outputs = None
            return answer

        return watched


class _Output:
    """What one map gave: the last columns of a first pass, and then one column a pass."""

    def __init__(self, module: nn.Linear, tail: int) -> None:
        self._module, self._tail = module, tail
        self._transposed = module.weight.t()
        self._shapes: list[torch.Size] = []
        self._first: Tensor | None = None
        self._first_version = 0
        self._pieces: list[Tensor] = []
        self._columns = 0

    def of(self, states: Tensor) -> tuple[Tensor, int]:
        """The output for these states, and how many bytes more are kept."""
        if self._first is not None and states.shape[1:-1] == (1,) and len(states) == len(self._first):
            return self._of_one_column(states)
        output = nn.functional.linear(states, self._module.weight, self._module.bias)
        kept = output if output.shape[1] <= self._tail else output[:, -self._tail :].clone()
        # After the first pass, whatever is not one column of each row belongs to no run of positions.
        self._shapes.append(kept.shape[:-1] if self._first is None else torch.Size())
        self._first, self._first_version = kept, kept._version
        return output, kept.nbytes

    def is_of(self, shapes: Sequence[torch.Size]) -> bool:
        """Whether these rows and columns were kept, and nobody wrote to them afterwards."""
        written = sum(piece._version for piece in self._pieces)  # once a column, if only here
        return (
            self._first is not None
            and self._shapes == shapes
            and self._first._version == self._first_version
            and written == self._columns
        )

    def joined(self, passes: int) -> Tensor:
        """The first ``passes`` passes along time (B × columns × out)."""
        assert self._first is not None  # noqa: S101  (is_of says so)
        pieces = [piece.transpose(0, 1) for piece in self._pieces]
        return torch.cat([self._first, *pieces], dim=1)[:, : self._first.shape[1] + passes - 1]

    def _of_one_column(self, states: Tensor) -> tuple[Tensor, int]:
        at, grown = self._columns % _PASSES_PER_PIECE, 0
        if at == 0:
            width = self._transposed.shape[1]
            self._pieces.append(states.new_empty(_PASSES_PER_PIECE, len(states), width))
            grown = self._pieces[-1].nbytes
        place = self._pieces[-1][at]
        if self._module.bias is None:
            torch.mm(states[:, 0], self._transposed, out=place)
        else:
            torch.addmm(self._module.bias, states[:, 0], self._transposed, out=place)
        self._columns += 1
        self._shapes.append(states.shape[:2])
        return place[:, None], grown


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
