"""Guards for LangChain: a chat model, a wrapper for chains, a callback, a middleware for agents.

    >>> from guardrail.langchain import ChatGuardrail
    >>> chat = ChatGuardrail(policy="builtin:default")
    >>> message = chat.invoke("What is the capital of France?")
    >>> message.content, message.response_metadata["uncertainty"]["confidence"]

This package adapts LangChain to the guard, which makes every decision. Names are imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from guardrail.errors import MissingDependencyError

if TYPE_CHECKING:
    from guardrail.langchain.app_calibration import calibrate as calibrate
    from guardrail.langchain.chat_model import ChatGuardrail as ChatGuardrail
    from guardrail.langchain.human_review import when_uncertain as when_uncertain
    from guardrail.langchain.middleware import UncertaintyMiddleware as UncertaintyMiddleware
    from guardrail.langchain.verdicts import UncertaintyCallbackHandler as UncertaintyCallbackHandler
    from guardrail.langchain.verdicts import get_uncertainty_callback as get_uncertainty_callback
    from guardrail.langchain.verdicts import verdict_of as verdict_of
    from guardrail.langchain.wrapper import UncertaintyGuard as UncertaintyGuard

_HOMES = {
    "ChatGuardrail": "guardrail.langchain.chat_model",
    "UncertaintyCallbackHandler": "guardrail.langchain.verdicts",
    "UncertaintyGuard": "guardrail.langchain.wrapper",
    "UncertaintyMiddleware": "guardrail.langchain.middleware",
    "calibrate": "guardrail.langchain.app_calibration",
    "get_uncertainty_callback": "guardrail.langchain.verdicts",
    "verdict_of": "guardrail.langchain.verdicts",
    "when_uncertain": "guardrail.langchain.human_review",
}
_PACKAGES = ("langchain", "langchain_core", "langgraph")

__all__ = [*sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'guardrail.langchain' has no attribute {name!r}")
    try:
        value = getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _PACKAGES:
            raise
        raise MissingDependencyError(
            f"guardrail.langchain.{name} needs {error.name}, which is not installed: "
            'pip install "guardrail-llm[agents]"'
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
