"""transformers' way of reading a GGUF file, without what it does over and over, and telling how far it is.

It parses the vocabulary, one small array a word, each time it wants anything of the file, and draws up the
names of an architecture's tensors for every module of the model: two thirds of the time of a conversion.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import gguf
import numpy as np
from transformers import modeling_gguf_pytorch_utils as reader

from guardrail.models.progress import ProgressCallback, report
from guardrail.utils.fork import ForkSafeLock

__all__ = ["read_once"]

# Names of other modules are replaced meanwhile: a second reader would put the first one's back.
_reading = ForkSafeLock()


class _Reader(gguf.GGUFReader):
    """Slices an array: a slice of a memory map is a memory map again, which takes three times as long."""

    def _get(self, *arguments: Any, **options: Any) -> Any:
        self.data: Any = np.asarray(self.data)
        return super()._get(*arguments, **options)


@contextmanager
def read_once(progress: ProgressCallback | None) -> Iterator[None]:
    """Inside, transformers parses a GGUF file once, and ``progress`` is told of its tensors.

    The file may not change meanwhile. One at a time in a process; another waits.
    """

    def counted(tensors: Iterable[Any], **_: object) -> Iterator[Any]:
        everything = list(tensors)
        for done, tensor in enumerate(everything):
            report(progress, "unpacking the weights of the GGUF file", done, len(everything))
            yield tensor

    with _reading, ExitStack() as restore:
        _replace(gguf, "GGUFReader", cache(_Reader), restore)
        _replace(gguf, "get_tensor_name_map", cache(gguf.get_tensor_name_map), restore)
        # Its progress bar has no switch.
        if hasattr(reader, "tqdm"):
            _replace(reader, "tqdm", counted, restore)
        yield


def _replace(module: Any, name: str, by: object, restore: ExitStack) -> None:
    restore.callback(setattr, module, name, getattr(module, name))
    setattr(module, name, by)
