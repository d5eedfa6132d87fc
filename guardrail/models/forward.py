"""Batched forward passes without gradients: log-likelihoods of responses, hidden states of prompts."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from guardrail.errors import GenerationError
from guardrail.models.generation import padded
from guardrail.models.replay.architecture import layer_input, positions_of, predicting
from guardrail.models.replay.caches import cache_of_row
from guardrail.models.runnable_model import sees_padding
from guardrail.models.trace import token_statistics

if TYPE_CHECKING:
    from transformers import Cache

    from guardrail.models.local import LocalModel
    from guardrail.models.prompt import EncodedPrompt

__all__ = ["log_likelihoods", "prompt_states"]


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


def prompt_states(
    model: "LocalModel", prompts: Sequence[Sequence[int]], tail: int, batch_size: int = 16
) -> Iterator[tuple[list[int], Tensor]]:
    """Read prompts and keep the input of every decoder layer at the last positions of each.

    Prompts of similar length are read together, padded on the left; one by one where a model would see the
    padding. Nothing else of the prompt is kept.

    Args:
        model: The model.
        prompts: Token ids, each prompt with at least ``tail`` of them.
        tail: How many of a prompt's last positions are kept.
        batch_size: Most prompts of a batch.

    Yields:
        Which prompts a batch held, and their states on the CPU, as float32 or wider (batch × L × tail × d);
        position ``−1`` is the prompt's last.

    Raises:
        GenerationError: A state is not a number.
    """
    for indices in _batches(model, [len(ids) for ids in prompts], batch_size):
        with model.alone():
            yield indices, _states(model, [prompts[index] for index in indices], tail)


def _states(model: "LocalModel", prompts: Sequence[Sequence[int]], tail: int) -> Tensor:
    layers = model.anatomy.layers
    kept: dict[int, Tensor] = {}

    def keeper(layer: int) -> Any:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            # Copied: a slice would hold on to the states of the whole prompt.
            kept[layer] = layer_input(args, kwargs)[:, -tail:].clone()

        return hook

    ids, mask = padded(model.model, prompts, left=True)
    with ExitStack() as stack:
        for at, layer in enumerate(layers):
            handle = layer.register_forward_pre_hook(keeper(at), with_kwargs=True)
            stack.callback(handle.remove)
        stack.enter_context(torch.no_grad())
        stack.enter_context(predicting(model.anatomy.head, 1))
        model.model(input_ids=ids, attention_mask=mask, use_cache=False, **positions_of(model.model, mask, 0))
    # Layers may lie on several devices.
    states = torch.stack([kept[at].cpu() for at in range(len(layers))], dim=1)
    states = states.to(torch.promote_types(states.dtype, torch.float32))
    if not torch.isfinite(states).all():
        dtype = str(model.model.dtype).removeprefix("torch.")
        raise GenerationError(
            f"{model.name} gave hidden states that are not numbers (dtype {dtype}). Try dtype bfloat16 or "
            "float32; if it stays, the weights are broken."
        )
    return states


def _batches(model: "LocalModel", lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Prompts that may be read together, the shortest first."""
    switch = model.anatomy.rope_switch
    apart = sees_padding(model.model, model.anatomy)
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        length, first = lengths[index], lengths[batch[0]] if batch else 0
        switched = switch is not None and first <= switch < length
        if batch and (len(batch) == size or switched or (apart and length != first)):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
