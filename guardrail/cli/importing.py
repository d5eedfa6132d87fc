"""Importing torch and transformers, which stay until the process ends."""

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["import_models"]

_ROOM = "guardrail.models.local"


def import_models() -> None:
    """Import the room of models in some two thirds of the time that it takes, for a command of our own.

    Hundreds of thousands of functions and classes are made, and none of them is garbage: it is not looked for
    meanwhile, nor among them later, when each search would hold up whatever runs by some tenths of a second.
    """
    if _ROOM in sys.modules:
        return
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with _spared():
            import_module(_ROOM)
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
