"""Private names of LangChain and LangGraph that buffering depends on; they are used only through this module.

Any release may rename them. None is ever looked up with a default, because an answer that should be withheld
would then leak silently. A version that lacks one of them is refused on first use.
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
    """Make the error for an unsupported version of a package.

    Args:
        package: Name of the distribution.
        why: How it differs from the supported versions.
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
    """A context variable through which LangChain adds a callback handler to every run.

    Attributes:
        variable: Context variable that holds the handler.
        inherited: Whether child runs get the handler as well.
        makes_one: Whether LangChain creates a handler itself if the variable is empty.
    """

    variable: ContextVar[BaseCallbackHandler | None]
    inherited: bool
    makes_one: bool


def hooks() -> list[Hook]:
    """List every context variable through which LangChain adds callback handlers to runs."""
    registered = [
        Hook(variable, inherited, made is not None and named is not None)
        for variable, inherited, made, named in _hooks
    ]
    tracer: ContextVar[Any] = _tracer
    return [*registered, Hook(tracer, inherited=True, makes_one=False)]


class GraphKeys(NamedTuple):
    """Keys under which LangGraph keeps its streams in the ``configurable`` of a config.

    Attributes:
        stream: Key of the stream that nodes and graphs write to.
        runtime: Key of the runtime that nodes use; it holds the writer of the custom stream.
    """

    stream: str
    runtime: str

    def check(self, values: Mapping[str, Any]) -> None:
        """Check that the stream and the runtime under these keys can be buffered.

        Raises:
            MissingDependencyError: One of them lacks an attribute that buffering needs.
        """
        stream, runtime = values.get(self.stream), values.get(self.runtime)
        if stream is not None and not (callable(stream) and hasattr(stream, "modes")):
            raise unsupported("langgraph", "its stream has no modes")
        if runtime is not None and not (hasattr(runtime, "stream_writer") and hasattr(runtime, "override")):
            raise unsupported("langgraph", "its runtime has no writer that can be replaced")


def graph_keys() -> GraphKeys | None:
    """Look up LangGraph's keys for its streams; None if LangGraph is not loaded, so that no graph can run.

    Raises:
        MissingDependencyError: LangGraph is loaded but does not define these keys.
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
    """Describe a chat model by everything that distinguishes its answers from those of another."""
    return f"{type(model).__module__}.{type(model).__qualname__} {model._get_llm_string()}"
