"""Private names of LangChain and LangGraph that holding answers back stands on: all, and nowhere else.

They may be renamed in any release. None is ever looked up with a default: what should be withheld would then
leak, and nobody would be told. A version that lacks one is refused, at the first use.
"""

import sys
from collections.abc import Mapping
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel

from guardrail.errors import MissingDependencyError

__all__ = [
    "EventStreamingHandler",
    "GraphKeys",
    "Hook",
    "StreamingHandler",
    "graph_keys",
    "hooks",
    "identity_of",
    "unsupported",
]


def unsupported(package: str, why: str) -> MissingDependencyError:
    """The error for a version of a package that is not known here.

    Args:
        package: The distribution's name.
        why: What is not as it is known.
    """
    try:
        found = f"{package} {version(package)}"
    except PackageNotFoundError:
        found = package
    return MissingDependencyError(
        f"{found} is not supported: {why}, so it cannot be made sure that nobody sees an answer before it is "
        'decided on. Install a version that is known: pip install "guardrail-llm[agents]"'
    )


try:
    from langchain_core.tracers import context as _tracing
    from langchain_core.tracers._streaming import _StreamingCallbackHandler as StreamingHandler
    from langchain_core.tracers._streaming import _V2StreamingCallbackHandler as EventStreamingHandler

    _hooks = _tracing._configure_hooks
    _tracer = _tracing.tracing_v2_callback_var
except (ImportError, AttributeError) as _problem:
    raise unsupported("langchain-core", str(_problem)) from _problem


class Hook(NamedTuple):
    """A context variable by which a handler comes to every run.

    Attributes:
        variable: Holds the handler.
        inherited: Whether runs within get it as well.
        makes_one: Whether LangChain makes a handler of its own where the variable is empty.
    """

    variable: ContextVar[BaseCallbackHandler | None]
    inherited: bool
    makes_one: bool


def hooks() -> list[Hook]:
    """All of them."""
    registered = [
        Hook(variable, inherited, made is not None and named is not None)
        for variable, inherited, made, named in _hooks
    ]
    tracer: ContextVar[Any] = _tracer
    return [*registered, Hook(tracer, inherited=True, makes_one=False)]


class GraphKeys(NamedTuple):
    """Where LangGraph keeps its streams within the ``configurable`` of a config.

    Attributes:
        stream: Of what its nodes and graphs write.
        runtime: Of what else a node may use; it has the writer of the custom stream.
    """

    stream: str
    runtime: str

    def check(self, values: Mapping[str, Any]) -> None:
        """Make sure that what lies there can be held.

        Raises:
            MissingDependencyError: It is not as it is known.
        """
        stream, runtime = values.get(self.stream), values.get(self.runtime)
        if stream is not None and not (callable(stream) and hasattr(stream, "modes")):
            raise unsupported("langgraph", "its stream has no modes")
        if runtime is not None and not (hasattr(runtime, "stream_writer") and hasattr(runtime, "override")):
            raise unsupported("langgraph", "its runtime has no writer that can be replaced")


def graph_keys() -> GraphKeys | None:
    """LangGraph's own names for its streams; None where no graph can be around.

    Raises:
        MissingDependencyError: LangGraph is in use, and has no such names.
    """
    return _graph_keys() if "langgraph.pregel" in sys.modules else None


@cache
def _graph_keys() -> GraphKeys:
    try:
        names = import_module("langgraph._internal._constants")
        keys = GraphKeys(names.CONFIG_KEY_STREAM, names.CONFIG_KEY_RUNTIME)
    except (ImportError, AttributeError) as problem:
        raise unsupported("langgraph", str(problem)) from problem
    if not all(isinstance(key, str) and key for key in keys):
        raise unsupported("langgraph", "its streams have no names")
    return keys


def identity_of(model: BaseChatModel) -> str:
    """Everything that tells a chat model's answers from another's."""
    return f"{type(model).__module__}.{type(model).__qualname__} {model._get_llm_string()}"
