"""What a model runs on: the circumstances that a measurement has to be read with."""

import platform
from typing import TYPE_CHECKING, NamedTuple

import psutil
import torch
import transformers

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel

__all__ = ["Runtime", "runtime_of"]


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
