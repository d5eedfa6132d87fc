"""What modules gave while a response was generated, kept so that a replay need not compute it again."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

# More than this is not kept: a long answer is replayed in full, which costs it little in proportion.
OUTPUTS_BUDGET_BYTES = 256 * 2**20


def last_columns(states: Tensor, count: int) -> Tensor:
    """At most so many of the last columns (B × columns × …)."""
    columns = states.shape[1]
    # A slice would hold on to the memory of the whole prompt.
    return states if columns <= count else states.narrow_copy(1, columns - count, count)


class KeptOutputs:
    """The outputs of some modules over the passes of a run, until they take too much room.

    They are written into one list as they come, and sorted out when they are asked for. Between two calls a
    layer's weights go through the cache, and what keeping touches has to be fetched again: one list for each
    module took five times as long.

    Args:
        modules: Whose outputs are kept.
        tail: How many columns of the first pass are kept.
    """

    def __init__(self, modules: Iterable[nn.Module], tail: int) -> None:
        self.tail = tail
        self._modules = set(modules)
        self._calls: list[tuple[nn.Module, Tensor]] = []
        self._passes = self._before = self._bytes = self._bytes_of_a_pass = 0

    def add(self, module: nn.Module, output: Tensor) -> None:
        """Keep what a module gave in one pass (B × columns × …), if it is one of them."""
        if module in self._modules:
            self._calls.append((module, last_columns(output, self.tail)))

    @property
    def keep(self) -> Callable[[tuple[nn.Module, Tensor]], None]:
        """The same without a look at the module or the columns, for passes behind the first."""
        return self._calls.append

    def end_pass(self) -> None:
        """Go on with the modules that were called once in every pass so far, if their outputs find room."""
        self._passes += 1
        # A pass behind the second is like it, unless more or fewer calls show that it is not.
        if self._passes <= 2 or len(self._calls) - self._before != len(self._modules):
            self._sort_out()
        self._bytes += self._bytes_of_a_pass
        if self._bytes > OUTPUTS_BUDGET_BYTES:
            self._modules.clear()
            self._calls.clear()
        self._before = len(self._calls)

    def joined(self, states: Sequence[Tensor], passes: int) -> Mapping[nn.Module, Tensor]:
        """What each module gave over the first ``passes`` passes, along time (B × columns × …).

        A module that was not called exactly once in each (an expert of a mixture, a block that is used
        twice), whose columns are not positions, or whose output was written to afterwards, is left out.

        Args:
            states: Hidden states of all passes, whose rows and columns these outputs have to have.
            passes: How many passes are wanted.
        """
        by_module: dict[nn.Module, list[Tensor]] = {}
        for module, output in self._calls:
            by_module.setdefault(module, []).append(output)
        shapes = [piece.shape[:2] for piece in states]
        return {
            module: torch.cat(outputs[:passes], dim=1)
            for module, outputs in by_module.items()
            if [output.shape[:2] for output in outputs] == shapes
            # A module's own writing counts too: rather one left out than one that is not what it gave.
            and not any(output._version for output in outputs)
        }

    def _sort_out(self) -> None:
        counts = Counter(module for module, _ in self._calls[self._before :])
        once = {module for module in self._modules if counts[module] == 1}
        unsorted = self._before if once == self._modules else 0
        self._calls[unsorted:] = [call for call in self._calls[unsorted:] if call[0] in once]
        self._modules = once
        self._bytes_of_a_pass = sum(output.nbytes for _, output in self._calls[-len(once) :]) if once else 0
