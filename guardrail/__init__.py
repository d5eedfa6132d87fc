"""Uncertainty guardrails for LLM apps that run a local model.

    >>> import guardrail
    >>> model = guardrail.LocalModel.load()
    >>> trace = model.generate("What is the capital of France?")
    >>> guardrail.score(model, trace).hybridgrad

Importing the package loads neither torch nor transformers; the names below are imported when first used.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guardrail.calibration.profile import Profile as Profile
    from guardrail.calibration.profile import read_profile as read_profile
    from guardrail.errors import GuardrailError as GuardrailError
    from guardrail.escalation.queue import HumanQueue as HumanQueue
    from guardrail.guard import Guard as Guard
    from guardrail.guard import GuardedAnswer as GuardedAnswer
    from guardrail.langchain import calibrate as calibrate
    from guardrail.models.loading import LoadOptions as LoadOptions
    from guardrail.models.local import LocalModel as LocalModel
    from guardrail.models.sampling import Sampling as Sampling
    from guardrail.models.trace import Trace as Trace
    from guardrail.policy.load import load_policy as load_policy
    from guardrail.policy.model import Policy as Policy
    from guardrail.scoring.options import ScoringOptions as ScoringOptions
    from guardrail.scoring.options import Span as Span
    from guardrail.scoring.score import score as score
    from guardrail.scoring.score import score_batch as score_batch
    from guardrail.scoring.segments import score_segments as score_segments
    from guardrail.scoring.segments import sentence_spans as sentence_spans
    from guardrail.scoring.semantic_tokens import with_known_token as with_known_token
    from guardrail.scoring.uncertainty import Uncertainty as Uncertainty
    from guardrail.scoring.uncertainty import combined_scores as combined_scores

# Otherwise Python prints warnings of a library whose app has set up no logging.
logging.getLogger("guardrail").addHandler(logging.NullHandler())

# Rooms import this name from here, and no other.
__version__ = "0.1.0"

_HOMES = {
    "Guard": "guardrail.guard",
    "GuardedAnswer": "guardrail.guard",
    "GuardrailError": "guardrail.errors",
    "HumanQueue": "guardrail.escalation.queue",
    "LoadOptions": "guardrail.models.loading",
    "LocalModel": "guardrail.models.local",
    "Policy": "guardrail.policy.model",
    "Profile": "guardrail.calibration.profile",
    "Sampling": "guardrail.models.sampling",
    "ScoringOptions": "guardrail.scoring.options",
    "Span": "guardrail.scoring.options",
    "Trace": "guardrail.models.trace",
    "Uncertainty": "guardrail.scoring.uncertainty",
    "calibrate": "guardrail.langchain",
    "combined_scores": "guardrail.scoring.uncertainty",
    "load_policy": "guardrail.policy.load",
    "read_profile": "guardrail.calibration.profile",
    "score": "guardrail.scoring.score",
    "score_batch": "guardrail.scoring.score",
    "score_segments": "guardrail.scoring.segments",
    "sentence_spans": "guardrail.scoring.segments",
    "with_known_token": "guardrail.scoring.semantic_tokens",
}

__all__ = [*sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'guardrail' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
