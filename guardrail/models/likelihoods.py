"""How likely several responses are behind one prompt, which is read once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from guardrail.errors import GenerationError
from guardrail.models.anatomy import predicting
from guardrail.models.kv_cache import cache_of_row
from guardrail.models.positions import positions_of
from guardrail.models.running import padded
from guardrail.models.statistics import token_statistics

if TYPE_CHECKING:
    from transformers import Cache

    from guardrail.models.local import LocalModel
    from guardrail.models.prompt import EncodedPrompt

__all__ = ["log_likelihoods"]


def log_likelihoods(
    model: "LocalModel", prompt: "EncodedPrompt", responses: Sequence[Sequence[int]]
) -> list[float]:
    """Log-likelihood of each of several responses to one prompt; nothing is kept to score them by.

    The prompt is run once, and the responses together over its keys and values. Where the model keeps
    something else than these, or reads longer texts with other angles, each response is read with the prompt.

    Args:
        model: The model.
        prompt: The prompt.
        responses: Token ids of each response.

    Returns:
        A number for each, nats.

    Raises:
        PromptError: The prompt has no tokens, or does not fit the context.
        ResponseError: A response has no tokens, or does not fit behind the prompt.
        GenerationError: The model gave logits that are not numbers.
    """
    if not responses:
        return []
    for response in responses:
        model.check_response(prompt, response)
    with model.alone(), torch.no_grad():
        found = _over_one_prompt(model, prompt.ids, responses)
    if found is None:
        traces = model.read_encoded([prompt] * len(responses), responses)
        for trace in traces:
            trace.release()
        return [sum(trace.log_probabilities) for trace in traces]
    sums = [sum(row[: len(response)]) for row, response in zip(found.tolist(), responses, strict=True)]
    if not torch.tensor(sums).isfinite().all():
        raise GenerationError(
            f"{model.name} gave logits that are not numbers. Try dtype bfloat16 or float32; if it stays, the "
            "weights are broken."
        )
    return sums


def _over_one_prompt(
    model: "LocalModel", prompt: Sequence[int], responses: Sequence[Sequence[int]]
) -> Tensor | None:
    """Log-probability of each response token (rows × longest); None where the cache cannot be shared."""
    longest, switch = max(map(len, responses)), model.anatomy.rope_switch
    if switch is not None and len(prompt) <= switch < len(prompt) + longest:
        return None
    ids, mask = padded(model.model, [prompt], left=True)
    logits, cache = _run(model, ids, mask, None, 1)
    shared = cache_of_row(cache, 0, len(responses))
    if shared is None:
        return None
    targets, _ = padded(model.model, responses, left=False)
    pieces = [logits.expand(len(responses), -1, -1)]
    if longest > 1:
        # What follows a response counts as text: nothing of the row looks at it.
        mask = mask.new_ones(len(responses), len(prompt) + longest - 1)
        pieces.append(_run(model, targets[:, :-1], mask, shared, longest - 1)[0])
    return token_statistics(iter(pieces), targets).log_probabilities


def _run(
    model: "LocalModel", ids: Tensor, mask: Tensor, cache: "Cache | None", columns: int
) -> "tuple[Tensor, Cache | None]":
    """The logits of the last columns, and the cache."""
    start = mask.shape[1] - ids.shape[1]
    with predicting(model.anatomy.head, columns):
        output = model.model(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            **positions_of(model.model, mask, start),
        )
    return output.logits, getattr(output, "past_key_values", None)
