"""Which device and which floating-point type a model gets on this machine."""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from guardrail.errors import OptionError

__all__ = ["DTYPES", "Machine", "choose_device", "choose_dtype", "this_machine"]

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}

# What is left of a GPU holds the KV cache, the activations of one backward pass and the framework itself.
_USABLE_SHARE_OF_GPU = 0.85
_USABLE_SHARE_OF_MEMORY = 0.5


class Machine(NamedTuple):
    """What there is to run on: free bytes of each CUDA device, whether there is MPS, bytes of memory."""

    cuda_free: tuple[int, ...]
    mps: bool
    memory: int


def this_machine() -> Machine:
    """Look at the devices and the memory of this machine, or of the container it gives us."""
    free: tuple[int, ...] = ()
    if torch.cuda.is_available():
        free = tuple(torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count()))
    memory = psutil.virtual_memory().total
    with suppress(OSError, ValueError):  # without a limit there is no such file, or it says "max"
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return Machine(free, torch.backends.mps.is_available(), memory)


def choose_device(requested: str, machine: Machine, needed_bytes: int) -> torch.device | None:
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
    requested: str, device: torch.device | None, machine: Machine, parameters: int
) -> torch.dtype | None:
    """The type of the weights; None means the type they are stored in.

    On a CPU half precision is slow and gains nothing but memory, so float32 is taken where half of the
    memory holds it.
    """
    if requested != "auto":
        return DTYPES[requested]
    fits = 4 * parameters <= _USABLE_SHARE_OF_MEMORY * machine.memory
    return torch.float32 if device is not None and device.type == "cpu" and fits else None


def _requested_device(requested: str, machine: Machine) -> torch.device:
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
