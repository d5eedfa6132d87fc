"""A probability of being correct in words that do not change: people learn what they mean."""

__all__ = ["BANDS", "confidence_in_words", "confidence_percent"]

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
