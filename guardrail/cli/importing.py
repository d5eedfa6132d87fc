"""Importing torch and transformers, which stay until the process ends."""

import gc
import sys
from importlib import import_module

__all__ = ["import_models"]

_ROOM = "guardrail.models.local"


def import_models() -> None:
    """Import the room of models without looking for garbage meanwhile, a quarter of the time that it takes.

    Hundreds of thousands of functions and classes are made, and none of them is garbage. They are kept out
    of later searches too, each of which would hold up whatever runs by some tenths of a second.
    """
    if _ROOM in sys.modules:
        return
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        import_module(_ROOM)
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()
