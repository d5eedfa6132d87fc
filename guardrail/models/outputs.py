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
        self._kept: dict[nn.Module, list[Tensor]] = {module: [] for module in modules}
        self._passes = self._bytes = 0

    # Called for every module and token: what can wait for the end of a pass, or of the run, is done there.
    def add(self, module: nn.Module, output: Tensor) -> None:
        """Keep what a module gave in one pass (B × columns × …), if it is one of them."""
        if module in self._kept:
            last = output if output.shape[1] <= self.tail else output[:, -self.tail :].clone()
            self._kept[module].append(last)

    def end_pass(self) -> None:
        """Go on with the modules that were called once in every pass so far, if their outputs find room."""
        self._passes += 1
        kept = {module: outputs for module, outputs in self._kept.items() if len(outputs) == self._passes}
        self._bytes += sum(outputs[-1].nbytes for outputs in kept.values())
        self._kept = kept if self._bytes <= OUTPUTS_BUDGET_BYTES else {}

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
            module: torch.cat(outputs[:passes], dim=1)
            for module, outputs in self._kept.items()
            if [output.shape[:2] for output in outputs] == shapes
            # A module's own writing counts too: rather one left out than one that is not what it gave.
            and not any(output._version for output in outputs)
        }
