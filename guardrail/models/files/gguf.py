"""A GGUF file converted once to a safetensors folder in float32, by transformers' own reader."""

import copy
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel

from guardrail.errors import ModelUnavailableError
from guardrail.models.replay.transformers_internals import gguf_progress, quiet_transformers
from guardrail.utils.threads import ForkSafeLock, ProgressCallback, report

__all__ = ["convert_gguf", "read_once"]


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
        restore.enter_context(gguf_progress(counted))
        yield


def _replace(module: Any, name: str, by: object, restore: ExitStack) -> None:
    restore.callback(setattr, module, name, getattr(module, name))
    setattr(module, name, by)


def convert_gguf(gguf: Path, folder: Path, scratch: Path, progress: ProgressCallback | None = None) -> None:
    """Write the model of a GGUF file into ``folder``: float32 safetensors, configuration and tokenizer.

    Args:
        gguf: The file to convert; it is not changed.
        folder: An existing empty folder.
        scratch: A folder for temporary files, which the caller deletes.
        progress: Told about each stage.

    Raises:
        ModelUnavailableError: The file is damaged or of an architecture transformers cannot read, or the
            disk has no room for it.
    """
    try:
        with quiet_transformers(), read_once(progress):
            _convert(_alone(gguf, scratch), folder, progress)
    except ModelUnavailableError:
        raise
    except Exception as error:  # the GGUF reader raises whatever a damaged file makes it stumble over
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelUnavailableError(f"{gguf.name} could not be converted to safetensors: {reason}") from error


def _convert(gguf: Path, folder: Path, progress: ProgressCallback | None) -> None:
    where: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True, "trust_remote_code": False}
    report(progress, "reading the tokenizer of the GGUF file")
    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), **where)
    report(progress, "reading the weights of the GGUF file")
    model = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent),
        dtype=torch.float32,
        # Unasked, transformers keeps the weights packed where it finds a kernel for them.
        quantization_config=GgufConfig(dequantize=True),
        **where,
    )
    _require_room(folder, model)
    report(progress, "writing safetensors")
    _as_plain_model(model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _as_plain_model(model: PreTrainedModel) -> PreTrainedModel:
    """The same weights in a model that knows nothing of GGUF: the original one refuses to be saved."""
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    # On the meta device no weights are made up that would only be overwritten.
    with torch.device("meta"):
        plain: PreTrainedModel = type(model)(config)
    plain.load_state_dict(model.state_dict(), strict=True, assign=True)
    plain.tie_weights()
    plain.generation_config = model.generation_config
    packed = [name for name, tensor in plain.named_parameters() if tensor.dtype != torch.float32]
    if packed:
        raise ModelUnavailableError(f"the weights {packed[:3]} were not unpacked to float32")
    return plain


def _require_room(folder: Path, model: PreTrainedModel) -> None:
    needed = 4 * sum(tensor.numel() for tensor in model.parameters()) + (64 << 20)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ModelUnavailableError(
            f"converting to safetensors takes {needed / 1e9:.1f} GB, and the model cache has "
            f"{free / 1e9:.1f} GB free: make room, or set GUARDRAIL_CACHE_DIR to a larger disk"
        )


def _alone(gguf: Path, scratch: Path) -> Path:
    """The file in a folder of its own: transformers would mix in a tokenizer.json that lies beside it."""
    folder = scratch / "alone"
    folder.mkdir()
    link = folder / "model.gguf"
    try:
        link.symlink_to(gguf.resolve())
    except OSError:  # Windows without the right to make links
        link.hardlink_to(gguf)
    return link
