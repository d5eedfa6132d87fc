"""How much memory a computation takes beyond what was held before it."""

import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["PeakMemory", "peak_memory"]


class PeakMemory(Protocol):
    """A context manager around a computation.

    Attributes:
        peak_bytes: The most that was held at once inside, beyond what was held before.
        largest_bytes: Size of the largest single tensor made inside; None where that is not seen.
        largest_shape: Its shape; None where that is not seen.
    """

    peak_bytes: int
    largest_bytes: int | None
    largest_shape: tuple[int, ...] | None

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def peak_memory(device: torch.device) -> PeakMemory:
    """The meter for a device: the allocator's own on CUDA, a count of tensors elsewhere.

    The count is exact and gives the same number every time, but sees tensors only: what a kernel allocates
    for itself while it runs (a matrix product's workspace, say) and what the allocator rounds up are not in
    it.
    """
    return _AllocatorPeak() if device.type == "cuda" else _TensorPeak()


class _AllocatorPeak:
    """By the statistics of CUDA's allocator, summed over the devices that can be seen."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self.largest_bytes: int | None = None
        self.largest_shape: tuple[int, ...] | None = None
        self._before: list[int] = []

    def __enter__(self) -> Self:
        for device in range(torch.cuda.device_count()):
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            self._before.append(torch.cuda.memory_allocated(device))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for device, before in enumerate(self._before):
            torch.cuda.synchronize(device)
            self.peak_bytes += torch.cuda.max_memory_allocated(device) - before


class _TensorPeak(TorchDispatchMode):
    """By watching every operation: the storages it makes, and when each of them goes."""

    def __init__(self) -> None:
        # torch does not annotate it.
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak_bytes = 0
        self.largest_bytes: int | None = 0
        self.largest_shape: tuple[int, ...] | None = None
        self._held = 0
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        # What an operation was given was there before, or is counted; a literal is handed over as an input.
        given: set[int] = set()
        if func is not torch.ops.aten.lift_fresh.default:
            given = {id(tensor.untyped_storage()) for tensor in _tensors((args, kwargs))}
        output = func(*args, **kwargs)
        for tensor in _tensors(output):
            storage = tensor.untyped_storage()
            if id(storage) not in self._alive and id(storage) not in given:
                self._count(storage, tuple(tensor.shape))
        return output

    def _count(self, storage: torch.UntypedStorage, shape: tuple[int, ...]) -> None:
        key, size = id(storage), storage.nbytes()

        def gone(_reference: Any) -> None:
            self._held -= size
            del self._alive[key]

        self._alive[key] = weakref.ref(storage, gone)
        self._held += size
        self.peak_bytes = max(self.peak_bytes, self._held)
        if size > (self.largest_bytes or 0):
            self.largest_bytes, self.largest_shape = size, shape


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]
