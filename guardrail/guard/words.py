"""Words that do not change, so that people learn what they mean: for a confidence, and for an action."""

from collections.abc import Mapping

from guardrail.policy.evidence import Action

__all__ = ["BANDS", "DEFAULT_MESSAGES", "UNCHECKED", "confidence_in_words", "confidence_percent"]

# Where the policy has no words of its own.
DEFAULT_MESSAGES: Mapping[Action, str] = {
    "flag": "Please check this answer: the model was not sure of it.",
    "abstain": "I am not sure enough to answer that.",
    "escalate": "I am not sure enough to answer that. A person will look at it.",
}

# Where an answer could not be scored or judged, likewise.
UNCHECKED = "This answer could not be checked, so it is not shown."

# From this many percent on, rounded.
BANDS = (
    (95, "very likely right"),
    (75, "likely right"),
    (55, "more likely right than wrong"),
    (45, "as likely right as wrong"),
    (25, "more likely wrong than right"),
    (5, "likely wrong"),
    (0, "very likely wrong"),
)


def confidence_in_words(confidence: float) -> str:
    """The words for a probability of being correct, 0 to 1; those of the number that is shown beside them."""
    percent = round(confidence * 100)
    return next(words for least, words in BANDS if percent >= least)


def confidence_percent(confidence: float) -> str:
    """The probability as a percentage; nothing is shown as certain."""
    percent = min(99, max(1, round(confidence * 100)))
    bound = "> " if confidence > 0.995 else "< " if confidence < 0.005 else ""
    return f"{bound}{percent} %"
