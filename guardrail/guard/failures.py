"""What may be said of a failure: its type and a sentence, never what was asked or answered."""

from typing import Literal

from guardrail.errors import CalibrationError, EscalationError, GenerationError, GuardrailError, ScoringError

__all__ = ["Stage", "failure"]

Stage = Literal["answer", "score", "call", "judge", "decide", "record"]

_SENTENCES: dict[Stage, str] = {
    "answer": "the model gave no answer",
    "score": "the answer could not be scored",
    "call": "the tools that the answer calls could not be read",
    "judge": "the answer could not be judged by the profile",
    "decide": "the policy could not decide",
    "record": "the decision could not be recorded",
}
# These are raised here, and nothing that was said is in them; what others write into theirs is not known.
_OURS = (CalibrationError, EscalationError, GenerationError, GuardrailError, ScoringError)


def failure(stage: Stage, error: Exception) -> str:
    """Describe what went wrong at a stage."""
    sentence = _SENTENCES[stage]
    if type(error) in _OURS:
        sentence = f"{sentence} ({' '.join(str(error).split())})"
    elif stage == "record" and isinstance(error, OSError) and error.strerror:
        sentence = f"{sentence} ({error.strerror})"
    return f"{type(error).__name__}: {sentence}"
