"""The one door to names of transformers that it does not promise to keep, and silence for what it prints.

Each name is looked up when it is needed, never when this file is imported. Where the installed version lacks
one that the truncated backward is built on, :func:`missing_internal` names it, and models are scored by the
full backward, which needs none of them. Where it lacks one of the others, what that name spared is done
without.

Of what transformers and the hub client print and warn while a model is opened, whatever matters (missing
weights, remote code, damage) is checked by this library itself and raised.
"""

import gc
import importlib
import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from guardrail.utils.threads import ForkSafeLock

if TYPE_CHECKING:
    from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
    from transformers.cache_utils import CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

__all__ = [
    "AttentionInterface",
    "AttentionMaskInterface",
    "CacheLayerMixin",
    "DynamicLayer",
    "DynamicSlidingWindowLayer",
    "attention_replaced",
    "causal_architectures",
    "gguf_progress",
    "import_quickly",
    "missing_internal",
    "quiet_hub",
    "quiet_transformers",
    "sdpa_attention_forward",
    "sdpa_mask",
]


# What the truncated backward is built on: names by module, and attributes of the classes among them.
_HOMES = {
    "AttentionInterface": "transformers",
    "AttentionMaskInterface": "transformers",
    "CacheLayerMixin": "transformers.cache_utils",
    "DynamicLayer": "transformers.cache_utils",
    "DynamicSlidingWindowLayer": "transformers.cache_utils",
    "PreTrainedConfig": "transformers.configuration_utils",
    "PreTrainedModel": "transformers.modeling_utils",
    "sdpa_attention_forward": "transformers.integrations.sdpa_attention",
    "sdpa_mask": "transformers.masking_utils",
}
_ATTRIBUTES = {
    "AttentionInterface": ("register",),
    "AttentionMaskInterface": ("register",),
    "DynamicLayer": ("get_seq_length", "lazy_initialization"),
    "PreTrainedConfig": ("_attn_implementation",),
    "PreTrainedModel": ("_supports_attention_backend",),
}
_OF_A_SLIDING_LAYER = (
    "cumulative_length",
    "is_initialized",
    "is_sliding",
    "keys",
    "sliding_window",
    "values",
)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


@cache
def missing_internal() -> str:
    """What the installed transformers lacks of all that the truncated backward needs; empty if nothing."""
    for name, home in _HOMES.items():
        try:
            found = getattr(import_module(home), name)
        except (ImportError, AttributeError):
            return f"{home}.{name}"
        for attribute in _ATTRIBUTES.get(name, ()):
            if not hasattr(found, attribute):
                return f"{home}.{name}.{attribute}"
    sliding = import_module(_HOMES["DynamicSlidingWindowLayer"]).DynamicSlidingWindowLayer
    try:
        layer = sliding(2)
    except TypeError:
        return f"{_HOMES['DynamicSlidingWindowLayer']}.DynamicSlidingWindowLayer(sliding_window)"
    lacks = (field for field in _OF_A_SLIDING_LAYER if not hasattr(layer, field))
    return next(
        (f"{_HOMES['DynamicSlidingWindowLayer']}.DynamicSlidingWindowLayer.{field}" for field in lacks), ""
    )


@contextmanager
def attention_replaced(model: "PreTrainedModel", config: Any, name: str) -> Iterator[None]:
    """Use a registered attention where the model would use PyTorch's scaled dot-product attention."""
    implementation = config._attn_implementation
    # Elsewhere the name of the implementation chooses among the model's own ones (Falcon): leave it.
    if implementation != "sdpa" or not model._supports_attention_backend:
        yield
        return
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = implementation


def causal_architectures() -> Mapping[str, frozenset[str]]:
    """The classes of causal language models by model type; none where transformers lists them elsewhere."""
    try:
        listed = import_module("transformers.models.auto.modeling_auto").MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    except (ImportError, AttributeError):
        return {}
    return {kind: frozenset([names] if isinstance(names, str) else names) for kind, names in listed.items()}


@contextmanager
def gguf_progress(counted: Callable[..., Iterable[Any]]) -> Iterator[None]:
    """Count tensors of a GGUF file by ``counted`` in place of a progress bar that has no switch."""
    modules = []
    with suppress(ImportError):
        modules.append(import_module("transformers.modeling_gguf_pytorch_utils"))
    with _replaced(modules, "tqdm", counted):
        yield


def import_quickly(module: str) -> None:
    """Import a module that imports torch and transformers, in some two thirds of the time that it takes.

    Hundreds of thousands of functions and classes are made, and none of them is garbage. So none is looked
    for meanwhile, nor among them later, when each search would hold up whatever runs by tenths of a second.
    What transformers is told meanwhile (see :func:`_spared`) is undone before this returns.
    """
    if module in sys.modules:
        return
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with _spared():
            import_module(module)
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _spared() -> Iterator[None]:
    """Spare transformers what no command of ours needs, while the rest of it is imported.

    It reads its 2,200 files of models to learn what is in them, and for ``transformers.models`` once more;
    and it imports scipy.optimize for the losses of object detection. A version in which these have other
    names is imported as it is.
    """
    transformers = import_module("transformers")
    utils = [import_module(name) for name in ("transformers.utils", "transformers.utils.import_utils")]
    with _replaced(utils, "is_scipy_available", lambda: False):
        listed = getattr(transformers, "_import_structure", None)
        if listed is not None and "transformers.models" not in sys.modules:
            with _replaced(utils, "define_import_structure", _models_of(listed)):
                import_module("transformers.models")
        yield


def _models_of(listed: dict[str, Any]) -> Callable[[str], Any]:
    """What is in the folders of models, by all that transformers listed.

    Which of it lacks another library is left out: transformers itself knows that.
    """
    at = "models."
    names = {module.removeprefix(at): set(of) for module, of in listed.items() if module.startswith(at)}
    return lambda _folder: {frozenset(): names}


@contextmanager
def _replaced(modules: list[ModuleType], name: str, value: object) -> Iterator[None]:
    """Something else by this name in these modules, where they have it."""
    kept = [(module, vars(module)[name]) for module in modules if name in vars(module)]
    for module, _ in kept:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, original in kept:
            setattr(module, name, original)


# The switches are global to the process. With two threads loading at once, the first in turns them off
# and the last out turns them on again; otherwise one would save the other's "off" as the state to restore.
_guard = ForkSafeLock()
_holders = 0
_restore = ExitStack()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No warnings, log lines or progress bars from transformers, accelerate or the hub client inside."""
    global _holders, _restore
    with _guard:
        if _holders == 0:
            _restore = ExitStack()
            _silence(_restore)
        _holders += 1
    try:
        yield
    finally:
        with _guard:
            _holders -= 1
            if _holders == 0:
                _restore.close()


@contextmanager
def quiet_hub() -> Iterator[None]:
    """No log lines or progress bars from the hub client inside; does not import transformers."""
    # By path: `huggingface_hub.utils.tqdm` is a class or a module, depending on what was imported before.
    bars = importlib.import_module("huggingface_hub.utils")
    logger = logging.getLogger("huggingface_hub")
    level, were_off = logger.level, bars.are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL)
        bars.disable_progress_bars()
        try:
            yield
        finally:
            logger.setLevel(level)
            if not were_off:
                bars.enable_progress_bars()


def _silence(restore: ExitStack) -> None:
    # Imported before the switches are saved: importing transformers is what sets them first.
    from transformers.utils import logging as transformers_logging

    restore.enter_context(quiet_hub())
    for name in ("transformers", "accelerate", "bitsandbytes"):
        logger = logging.getLogger(name)
        restore.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL)
    if transformers_logging.is_progress_bar_enabled():
        restore.callback(transformers_logging.enable_progress_bar)
        transformers_logging.disable_progress_bar()
