"""Hidden states at the end of prompts, of every decoder layer, in batches."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from guardrail.errors import GenerationError
from guardrail.models.anatomy import layer_input, predicting
from guardrail.models.padding import sees_padding
from guardrail.models.positions import positions_of
from guardrail.models.running import padded

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel

__all__ = ["prompt_states"]


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
