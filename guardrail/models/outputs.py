"""What modules gave while a response was generated, kept so that a replay need not compute it again."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

# More than this is not kept: a long answer is replayed in full, which costs it little in proportion.
OUTPUTS_BUDGET_BYTES = 256 * 2**20


class KeptOutputs:
    """The outputs of some modules over the passes of a run, until they take too much room.

    Args:
        modules: Whose outputs are kept.
        tail: How many columns of the first pass are kept.
    """

    def __init__(self, modules: Iterable[nn.Module], tail: int) -> None:
        self.tail = tail
        # Each output, and how often it had been written to when it was kept.
        self._kept: dict[nn.Module, list[tuple[Tensor, int]]] | None = {module: [] for module in modules}
        self._bytes = 0

    def add(self, module: nn.Module, output: Tensor) -> None:
        """Keep what a module gave in one pass (B × columns × …), if it is one of them."""
        if self._kept is None or module not in self._kept:
            return
        last = output if output.shape[1] <= self.tail else output[:, -self.tail :].clone()
        self._kept[module].append((last, last._version))
        self._bytes += last.nbytes
        if self._bytes > OUTPUTS_BUDGET_BYTES:
            self._kept = None

    def joined(self, states: Sequence[Tensor], passes: int) -> Mapping[nn.Module, Tensor]:
        """What each module gave over the first ``passes`` passes, along time (B × columns × …).

        A module that was not called exactly once in each (an expert of a mixture, a block that is used
        twice), whose columns are not positions, or whose output was written to afterwards, is left out.

        Args:
            states: Hidden states of all passes, whose rows and columns these outputs have to have.
            passes: How many passes are wanted.
        """
        shapes = [piece.shape[:2] for piece in states]
        return {
            module: torch.cat([output for output, _ in outputs[:passes]], dim=1)
            for module, outputs in (self._kept or {}).items()
            if [output.shape[:2] for output, _ in outputs] == shapes
            and all(output._version == version for output, version in outputs)
        }
