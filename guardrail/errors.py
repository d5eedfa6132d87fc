"""Every error this library raises on purpose.

    GuardrailError
    ├── InvalidInputError            what the caller gave cannot be used (exit status 2)
    │   ├── PromptError              empty, too long, or refused by the chat template
    │   ├── ResponseError            no tokens, or ids outside the vocabulary
    │   ├── OptionError              an argument out of its range
    │   ├── RecordError              a line of a data file that cannot be read
    │   ├── PolicyError              a policy with mistakes; ``mistakes`` lists each with its place
    │   ├── ProfileError             a profile that cannot be read, was altered, or lacks what is asked of it
    │   │   └── ForeignProfileError  a profile of another model or scorer; ``differences`` names the fields
    │   ├── CalibrationError         labelled answers that nothing can be learned from
    │   └── ModelReferenceError      a model name that leads nowhere
    │       └── UnsafeModelError     pickled weights, or remote code that was not asked for
    ├── ModelUnavailableError        the model exists but could not be had (exit status 1)
    ├── GenerationError              the model ran and produced nothing usable
    ├── ScoringError                 no uncertainty could be computed: never a number instead
    ├── EscalationError              the target of an escalation failed or gave nothing usable
    ├── UpstreamError                an inference server failed or gave nothing usable
    ├── FileInUseError               another run writes the file (exit status 3)
    ├── AbstainedError               raised in place of an answer that the policy withheld, where asked for
    ├── AnswerTimeoutError           the caller's time was up before there was an answer
    └── MissingDependencyError       an optional extra is not installed

Each message says what was wrong, where, and what to do about it. ``exit_status`` is what the command
line ends with.
"""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "AbstainedError",
    "AnswerTimeoutError",
    "CalibrationError",
    "EscalationError",
    "FileInUseError",
    "ForeignProfileError",
    "GenerationError",
    "GuardrailError",
    "InvalidInputError",
    "MissingDependencyError",
    "ModelReferenceError",
    "ModelUnavailableError",
    "OptionError",
    "PolicyError",
    "ProfileError",
    "PromptError",
    "RecordError",
    "ResponseError",
    "ScoringError",
    "UnsafeModelError",
    "UpstreamError",
]


class GuardrailError(Exception):
    """Base of every error raised by guardrail on purpose."""

    exit_status = 1


class InvalidInputError(GuardrailError, ValueError):
    """What the caller gave cannot be used as it is."""

    exit_status = 2


class PromptError(InvalidInputError):
    """A prompt that is empty, longer than the context, or refused by the chat template."""


class ResponseError(InvalidInputError):
    """A response to be scored that has no tokens or holds ids outside the vocabulary."""


class OptionError(InvalidInputError):
    """An argument that is out of its range or does not fit the others."""


class RecordError(InvalidInputError):
    """A line of a data file that cannot be read."""


class PolicyError(InvalidInputError):
    """A policy with mistakes.

    Attributes:
        mistakes: One sentence a mistake, each beginning with ``file:line:column path:``.
    """

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


class ProfileError(InvalidInputError):
    """A profile that cannot be read, was altered, or lacks what is asked of it."""


class ForeignProfileError(ProfileError):
    """A profile of another model, template, dtype, quantisation or scorer.

    Attributes:
        differences: Names of the fields that differ.
    """

    def __init__(self, message: str, differences: Sequence[str]) -> None:
        super().__init__(message)
        self.differences = tuple(differences)


class CalibrationError(InvalidInputError):
    """Labelled answers that nothing can be learned from, or an answer that a profile cannot judge."""


class ModelReferenceError(InvalidInputError):
    """A model name that leads to no model."""


class UnsafeModelError(ModelReferenceError):
    """A model that would need unpickling, or code from the hub, which was not asked for."""


class ModelUnavailableError(GuardrailError):
    """A model that exists but could not be fetched, verified or opened."""


class GenerationError(GuardrailError):
    """The model ran, but what it produced cannot be used."""


class ScoringError(GuardrailError):
    """The uncertainty of a response could not be computed."""


class EscalationError(GuardrailError):
    """The target of an escalation failed, or gave nothing that can be used."""


class UpstreamError(GuardrailError):
    """An inference server that is asked for answers failed, or gave nothing that can be used.

    Attributes:
        status: The HTTP status that it answered with, where that was not 200; None otherwise.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class FileInUseError(GuardrailError):
    """Another run writes the file; the same command can be given again when that has ended."""

    exit_status = 3


class AbstainedError(GuardrailError):
    """The policy withheld the answer, and the caller asked for an error in its place.

    Attributes:
        verdict: What was decided, plain values for JSON; None where nothing could be.
    """

    def __init__(self, message: str, verdict: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.verdict = None if verdict is None else dict(verdict)


class AnswerTimeoutError(GuardrailError, TimeoutError):
    """The time that the caller gives was up before there was an answer; nothing of one is shown."""


class MissingDependencyError(GuardrailError, ImportError):
    """An optional dependency is missing; the message names the pip command that installs it."""
