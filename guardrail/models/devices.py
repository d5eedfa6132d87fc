"""Device and floating-point type of a model, peak memory, and the circumstances of a measurement."""

import platform
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import psutil
import torch
import transformers
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from guardrail.errors import OptionError

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel

__all__ = [
    "DTYPES",
    "Hardware",
    "PeakMemory",
    "Runtime",
    "available_hardware",
    "choose_device",
    "choose_dtype",
    "peak_memory",
    "runtime_of",
]


DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}

# What is left of a GPU holds the KV cache, the activations of one backward pass and the framework itself.
_USABLE_SHARE_OF_GPU = 0.85
_USABLE_SHARE_OF_MEMORY = 0.5


class Hardware(NamedTuple):
    """What there is to run on: free bytes of each CUDA device, whether there is MPS, bytes of memory."""

    cuda_free: tuple[int, ...]
    mps: bool
    memory: int


def available_hardware() -> Hardware:
    """Look at the devices and the memory of this machine, or of the container it gives us."""
    free: tuple[int, ...] = ()
    if torch.cuda.is_available():
        free = tuple(torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count()))
    memory = psutil.virtual_memory().total
    with suppress(OSError, ValueError):  # without a limit there is no such file, or it says "max"
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return Hardware(free, torch.backends.mps.is_available(), memory)


def choose_device(requested: str, machine: Hardware, needed_bytes: int) -> torch.device | None:
    """The device to put a whole model on, or None where it must be spread over several.

    Args:
        requested: ``auto`` or a torch device such as ``cuda:1`` or ``cpu``.
        machine: What there is.
        needed_bytes: What the weights will take.

    Raises:
        OptionError: The device is not one torch knows, or this machine does not have it.
    """
    if requested != "auto":
        return _requested_device(requested, machine)
    if machine.cuda_free:
        best = max(range(len(machine.cuda_free)), key=machine.cuda_free.__getitem__)
        if needed_bytes > _USABLE_SHARE_OF_GPU * machine.cuda_free[best]:
            return None
        return torch.device("cuda", best)
    return torch.device("mps" if machine.mps else "cpu")


def choose_dtype(
    requested: str, device: torch.device | None, machine: Hardware, parameters: int
) -> torch.dtype | None:
    """The type of the weights; None means the type they are stored in.

    On a CPU half precision is slow and gains nothing but memory, so float32 is taken where half of the
    memory holds it.
    """
    if requested != "auto":
        return DTYPES[requested]
    fits = 4 * parameters <= _USABLE_SHARE_OF_MEMORY * machine.memory
    return torch.float32 if device is not None and device.type == "cpu" and fits else None


def _requested_device(requested: str, machine: Hardware) -> torch.device:
    try:
        device = torch.device(requested)
    except RuntimeError as error:
        raise OptionError(
            f"device={requested!r} is not a device: give auto, cpu, cuda, cuda:1 or mps"
        ) from error
    if device.type == "cuda":
        index = device.index or 0
        if index >= len(machine.cuda_free):
            raise OptionError(
                f"device={requested!r}, but torch sees {len(machine.cuda_free)} CUDA devices: use auto or cpu"
            )
        return torch.device("cuda", index)
    if device.type == "mps" and not machine.mps:
        raise OptionError(f"device={requested!r}, but torch sees no MPS device here: use auto or cpu")
    return device


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


class Runtime(NamedTuple):
    """Circumstances of a measurement.

    Attributes:
        device: Where the model is, as torch calls it.
        device_name: What that is.
        dtype: Type the model computes in.
        threads: Threads that torch uses for one operation on the CPU.
        cores: Processor cores this process may use.
        torch: Version of torch.
        transformers: Version of transformers.
        python: Version of Python.
    """

    device: str
    device_name: str
    dtype: str
    threads: int
    cores: int
    torch: str
    transformers: str
    python: str


def runtime_of(model: "LocalModel") -> Runtime:
    """Look at what a model runs on."""
    device = model.model.device
    cuda = device.type == "cuda"
    return Runtime(
        device=str(device),
        device_name=torch.cuda.get_device_name(device) if cuda else platform.machine(),
        dtype=str(model.model.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        cores=psutil.cpu_count() or 1,
        torch=torch.__version__,
        transformers=transformers.__version__,
        python=platform.python_version(),
    )
