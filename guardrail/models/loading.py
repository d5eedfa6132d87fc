"""Opening a local causal language model for reading: weights, tokenizer and device, and nothing unsafe."""

import importlib.util
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psutil
import torch
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from guardrail.errors import (
    GuardrailError,
    MissingDependencyError,
    ModelReferenceError,
    ModelUnavailableError,
    OptionError,
    UnsafeModelError,
)
from guardrail.models.files.checkpoint import Checkpoint, inspect_checkpoint
from guardrail.models.files.reference import ModelReference
from guardrail.models.files.resolve import local_folder
from guardrail.models.replay.transformers_internals import causal_architectures, quiet_transformers
from guardrail.utils.text import takes_no_others
from guardrail.utils.threads import ProgressCallback, report

__all__ = [
    "DTYPES",
    "Hardware",
    "LoadOptions",
    "OpenedModel",
    "available_hardware",
    "choose_device",
    "choose_dtype",
    "local_folder",
    "open_model",
]


DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
_BYTES_PER_QUANTIZED_VALUE = {"8bit": 1.0, "4bit": 0.6}
# What is left of a GPU holds the KV cache, the activations of one backward pass and the framework itself.
_USABLE_SHARE_OF_GPU = 0.85
_USABLE_SHARE_OF_MEMORY = 0.5


@takes_no_others
@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a model is to be opened.

    Attributes:
        device: ``auto`` (CUDA, else MPS, else CPU) or a torch device such as ``cuda:1``.
        dtype: ``auto``, ``float32``, ``bfloat16``, ``float16`` or ``float64``. ``auto`` is the type the
            weights are stored in; on a CPU it is float32 where that takes at most half of the memory.
        quantization: Quantize the weights while loading, by bitsandbytes; needs a CUDA device.
        device_map: Passed on to accelerate as it is; leaves ``device`` no say.
        trust_remote_code: Allow code that comes with the model to be run. Only for models you trust.

    Raises:
        OptionError: An option is not one of these, or two of them contradict each other.
    """

    device: str = "auto"
    dtype: str = "auto"
    quantization: Literal["8bit", "4bit"] | None = None
    device_map: str | dict[str, Any] | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.dtype != "auto" and self.dtype not in DTYPES:
            raise OptionError(f"dtype={self.dtype!r} is not one of auto, {', '.join(DTYPES)}")
        if self.quantization is not None and self.quantization not in _BYTES_PER_QUANTIZED_VALUE:
            raise OptionError(f"quantization={self.quantization!r} is not one of 8bit, 4bit")
        if self.device_map is not None and self.device != "auto":
            raise OptionError("give either device or device_map, not both")


class OpenedModel(NamedTuple):
    """A model ready to be read: in evaluation mode, no parameter asks for gradients, padding on the left."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    folder: Path | None


def open_model(
    reference: ModelReference, options: LoadOptions = LoadOptions(), progress: ProgressCallback | None = None
) -> OpenedModel:
    """Open a model, fetching or converting it first where that was not done before.

    Raises:
        ModelReferenceError: The reference leads to no causal language model with a tokenizer.
        UnsafeModelError: It would take unpickling, or running the model's own code without permission.
        ModelUnavailableError: It could not be fetched, is damaged, or does not fit on the device.
        OptionError: The machine lacks the device that was asked for.
        MissingDependencyError: Quantization was asked for and bitsandbytes is not installed.
    """
    _require_quantization(options)
    folder = local_folder(reference, progress, with_code=options.trust_remote_code)
    checkpoint = inspect_checkpoint(folder)
    report(progress, f"opening {reference.name}")
    with quiet_transformers():
        config = _open_config(checkpoint, options)
        tokenizer = _open_tokenizer(folder, options)
        model = _open_weights(checkpoint, config, options)
    model.eval()
    model.requires_grad_(False)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token
    return OpenedModel(model, tokenizer, folder)


def _open_config(checkpoint: Checkpoint, options: LoadOptions) -> PreTrainedConfig:
    folder, raw = checkpoint.folder, checkpoint.config
    model_type, auto_map = raw.get("model_type"), raw.get("auto_map") or {}
    known = model_type in CONFIG_MAPPING
    if not known and not auto_map:
        raise ModelReferenceError(
            f"{folder} is of the type {model_type!r}, which the installed transformers does not know: check "
            "its config.json, or upgrade transformers"
        )
    if not known and not options.trust_remote_code:
        raise UnsafeModelError(
            f"{folder} is of the type {model_type!r}, which only the model's own code can open: read that "
            "code, and pass trust_remote_code=True if you trust it"
        )
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=options.trust_remote_code
        )
    except Exception as error:  # configuration classes raise whatever their fields make them
        raise _not_opened(folder, "its configuration", error) from error
    named = raw.get("architectures") or []
    own_code = options.trust_remote_code and "AutoModelForCausalLM" in auto_map
    generates = own_code or _continues_text(config, named)
    if getattr(config, "is_encoder_decoder", False) or not generates:
        raise ModelReferenceError(
            f"{folder} holds a {', '.join(named) or model_type}, which is not a causal (decoder-only) "
            "language model: guardrail can only read those"
        )
    return config


def _continues_text(config: PreTrainedConfig, named: Sequence[str]) -> bool:
    """Whether a configuration is a causal language model's, and so are the weights, if they say of what."""
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return False
    architectures = causal_architectures()
    if not architectures:
        classes = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
        several = classes if isinstance(classes, tuple) else (classes,)
        architectures = {config.model_type: frozenset(one.__name__ for one in several if one)}
    return not named or bool(frozenset().union(*architectures.values()) & set(named))


def _open_tokenizer(folder: Path, options: LoadOptions) -> PreTrainedTokenizerBase:
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=options.trust_remote_code
        )
    except Exception as error:  # tokenizers raises a bare Exception for a damaged file
        raise _not_opened(folder, "its tokenizer", error) from error
    longest: Any = tokenizer.model_max_length
    if not isinstance(longest, int | float):
        raise _not_opened(
            folder,
            "its tokenizer",
            ValueError(f"tokenizer_config.json: model_max_length is {longest!r}, no number"),
        )
    return tokenizer


def _open_weights(checkpoint: Checkpoint, config: PreTrainedConfig, options: LoadOptions) -> PreTrainedModel:
    folder, machine = checkpoint.folder, available_hardware()
    arguments: dict[str, Any] = {}
    device: torch.device | None = None
    if options.device_map is not None:
        arguments["device_map"] = options.device_map
    else:
        device = choose_device(options.device, machine, _needed_bytes(checkpoint, options))
        if device is None:
            arguments["device_map"] = "auto"
        elif device.type != "cpu":
            arguments["device_map"] = {"": str(device)}
    dtype = choose_dtype(options.dtype, device, machine, checkpoint.parameters)
    if options.quantization is not None:
        arguments["quantization_config"] = BitsAndBytesConfig(
            load_in_8bit=options.quantization == "8bit",
            load_in_4bit=options.quantization == "4bit",
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=dtype or torch.bfloat16,
        )
    try:
        opened: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype or "auto",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=options.trust_remote_code,
            output_loading_info=True,
            # Otherwise transformers says in a log line alone what does not fit.
            ignore_mismatched_sizes=True,
            **arguments,
        )
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ModelUnavailableError(
            f"{folder} does not fit on {device or 'these devices'}: its weights take "
            f"{checkpoint.weight_bytes / 1e9:.1f} GB; choose a smaller model, another device, bfloat16 or "
            "quantization"
        ) from error
    except Exception as error:  # transformers raises many kinds, none of them its own
        raise _not_opened(folder, "its weights", error) from error
    model: PreTrainedModel = opened[0]
    found: dict[str, Any] = opened[1]
    # transformers would fill what is missing with random numbers and mention it in a log line.
    wanting = sorted(found["missing_keys"]) + sorted(key for key, *_ in found["mismatched_keys"])
    if wanting:
        raise ModelUnavailableError(
            f"{folder} does not hold the whole model: {len(wanting)} weights are missing or of another "
            f"shape, such as {wanting[0]}; fetch it again"
        )
    return model


def _needed_bytes(checkpoint: Checkpoint, options: LoadOptions) -> int:
    if options.quantization is not None:
        return int(checkpoint.parameters * _BYTES_PER_QUANTIZED_VALUE[options.quantization])
    if options.dtype != "auto":
        return checkpoint.parameters * DTYPES[options.dtype].itemsize
    return checkpoint.weight_bytes


def _require_quantization(options: LoadOptions) -> None:
    if options.quantization is None:
        return
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingDependencyError(
            f"quantization={options.quantization!r} needs bitsandbytes: "
            'pip install "guardrail-llm[quantization]"'
        )
    if not torch.cuda.is_available():
        raise OptionError(
            f"quantization={options.quantization!r} needs a CUDA device, and torch sees none here"
        )


def _not_opened(folder: Path, what: str, error: Exception) -> GuardrailError:
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    reason = f"{reason} is not known" if isinstance(error, KeyError) else reason
    if "trust_remote_code" in reason:
        return UnsafeModelError(
            f"{folder}: {what} can only be opened by the model's own code: read that code, and pass "
            "trust_remote_code=True if you trust it"
        )
    return ModelUnavailableError(
        f"{folder}: {what} could not be opened: {reason.rstrip('.')}; mend it, or fetch the model again"
    )


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
