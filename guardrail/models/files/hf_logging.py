"""Silence for what transformers and the hub client print and warn while a model is opened.

What matters of it (missing weights, remote code, damage) is checked by this library itself and raised.
"""

import importlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from guardrail.utils.threads import ForkSafeLock

__all__ = ["quiet_hub", "quiet_transformers"]


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
