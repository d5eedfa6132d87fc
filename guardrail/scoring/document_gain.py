"""How much the documents in a prompt moved an answer: the gain of its tokens by them.

The answer is read once more behind the same prompt without its documents. A token's gain is its
log-probability with them less that without; an answer that was not taken from the document gains little. It
is measured for documents that a message declares (:mod:`guardrail.models.documents`), and only where a
profile reads it, since it costs a forward pass of its own.
"""

from math import fsum, isfinite
from typing import TYPE_CHECKING

from guardrail.errors import ScoringError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardrail.models.local import LocalModel
    from guardrail.models.prompt import EncodedPrompt
    from guardrail.models.trace import Trace

__all__ = ["document_gains"]


def document_gains(
    model: "LocalModel", traces: "Sequence[Trace]", prompts: "Sequence[EncodedPrompt]"
) -> list[float]:
    """Mean gain of the answer's tokens by the documents of their prompts, in nats a token; at once for all.

    Args:
        model: The model that gave or read the answers.
        traces: The answers, behind prompts with their documents; released or not. Each has a token.
        prompts: The same prompts without them.

    Returns:
        For each answer, (log p(answer | prompt) − log p(answer | prompt without documents)) / tokens. What
        was reasoned before the answer is read with it, and does not count. Negative where the documents made
        the answer less likely.

    Raises:
        ScoringError: One is not a number.
    """
    read = model.read_encoded(prompts, [trace.response_ids for trace in traces])
    try:
        return [_mean_gain(given, without) for given, without in zip(traces, read, strict=True)]
    finally:
        for trace in read:
            trace.release()


def _mean_gain(given: "Trace", without: "Trace") -> float:
    answer = slice(given.answer_start, len(given.response_ids))
    tokens = len(given.answer_ids)
    if without.response_ids != given.response_ids or not tokens:
        raise ScoringError("the answer could not be read without its document")
    pairs = zip(given.log_probabilities[answer], without.log_probabilities[answer], strict=True)
    gain = fsum(one - other for one, other in pairs) / tokens
    if not isfinite(gain):
        raise ScoringError(f"document_gain is {gain}")
    return gain
