"""Run the last columns of a finished run once more, upwards from one layer, with gradients."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from guardrail.models.anatomy import (
    Anatomy,
    headless,
    layer_input,
    passing_through,
    predicting,
    with_layer_input,
)
from guardrail.models.attention import attending_from_suffix
from guardrail.models.kv_cache import replay_cache
from guardrail.models.linears import remembered
from guardrail.models.positions import positions_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from guardrail.models.trace import KeptStates


class Differentiable(NamedTuple):
    """A forward pass with a graph.

    Attributes:
        inputs: By decoder layer, its input over the columns that were run (B × S × d).
        start: The first of these columns.
        final: What the head was given where each response token was predicted (B × T × d).
        head_output: What the head answered there, cut off from ``final``: a leaf (B × T × V); None for a
            plain head, whose product is spared.
        logits: The model's logits as it makes them of ``head_output`` (soft-capping, scaling); or None.
    """

    inputs: dict[int, Tensor]
    start: int
    final: Tensor
    head_output: Tensor | None
    logits: Tensor | None


def replay(
    model: "PreTrainedModel", anatomy: Anatomy, states: "KeptStates", start: int, layers: Sequence[int]
) -> Differentiable | None:
    """Run the columns from ``start`` on again over the kept cache, with a graph from the lowest layer on.

    A hidden state cannot influence the positions before it, nor the layers below: neither has to be run, and
    this gives the total derivatives at any position from ``start`` on.

    Returns:
        The pass, or None where the kept cache cannot be replayed.
    """
    cache = replay_cache(states.cache, states.columns, start)
    if cache is None:
        return None
    lowest = min(layers)
    entering = None
    outputs: Mapping[nn.Module, Tensor] = {}
    with ExitStack() as stack:
        if states.kept_every_column and lowest >= states.layer and start >= states.entering_from:
            kept = slice(start - states.entering_from, None)
            entering = states.entering[:, kept]
            outputs = {module: output[:, kept] for module, output in states.outputs.items()}
            stack.enter_context(passing_through(anatomy.layers[: states.layer], states.returned))
            linears = {m: output for m, output in outputs.items() if isinstance(m, nn.Linear)}
            stack.enter_context(remembered(linears))
        stack.enter_context(attending_from_suffix(model, anatomy.config, outputs))
        return run_with_graph(model, anatomy, states, start, layers, entering, past_key_values=cache)


def run_whole(
    model: "PreTrainedModel", anatomy: Anatomy, states: "KeptStates", layers: Sequence[int]
) -> Differentiable:
    """Run every column from the beginning, without a cache: right for any architecture, and dearer."""
    return run_with_graph(model, anatomy, states, 0, layers, None, use_cache=False)


@contextmanager
def run_from_embedding(
    model: "PreTrainedModel", anatomy: Anatomy, states: "KeptStates", embedding: nn.Parameter
) -> Iterator[Differentiable]:
    """Run every column with a graph that begins at the weight of the input embedding."""
    embedding.requires_grad_(True)
    try:
        yield run_with_graph(model, anatomy, states, 0, (), None, use_cache=False)
    finally:
        embedding.requires_grad_(False)


def run_with_graph(
    model: "PreTrainedModel",
    anatomy: Anatomy,
    states: "KeptStates",
    start: int,
    layers: Sequence[int],
    entering: Tensor | None,
    **kwargs: Any,
) -> Differentiable:
    """Run the columns from ``start`` on, beginning a graph at the lowest of ``layers``, if any.

    Args:
        model: The model.
        anatomy: Its parts.
        states: The batch to run.
        start: First column.
        layers: Decoder layers whose inputs are wanted.
        entering: Inputs of the kept layer, if the run is to begin there (B × S × d).
        **kwargs: Passed to the model's forward.
    """
    predicted = states.final.shape[1]
    inputs: dict[int, Tensor] = {}
    seen: dict[str, Tensor] = {}

    def replace(states: Tensor) -> Any:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return with_layer_input(args, kwargs, states)

        return hook

    def begin(index: int) -> Any:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            # Every parameter is frozen: the graph begins here or nowhere.
            inputs[index] = layer_input(args, kwargs).detach().requires_grad_()
            return with_layer_input(args, kwargs, inputs[index])

        return hook

    def note(index: int) -> Any:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            inputs[index] = layer_input(args, kwargs)

        return hook

    def end(_module: nn.Module, args: tuple[Any, ...]) -> None:
        seen["final"] = args[0]

    def cut(_module: nn.Module, _args: tuple[Any, ...], output: Tensor) -> Tensor:
        seen["head_output"] = output.detach().requires_grad_()
        return seen["head_output"]

    with ExitStack() as stack:
        stack.enter_context(predicting(anatomy.head, predicted))
        stack.callback(anatomy.head.register_forward_pre_hook(end).remove)
        if entering is not None:
            first = anatomy.layers[states.layer]
            handle = first.register_forward_pre_hook(replace(entering), with_kwargs=True)
            stack.callback(handle.remove)
        for index in layers:
            hook = (begin if index == min(layers) else note)(index)
            handle = anatomy.layers[index].register_forward_pre_hook(hook, with_kwargs=True)
            stack.callback(handle.remove)
        if states.plain_head:
            stack.enter_context(headless(anatomy.head))
        else:
            stack.callback(anatomy.head.register_forward_hook(cut).remove)
        stack.enter_context(torch.enable_grad())
        output = model(
            input_ids=states.ids[:, start:],
            attention_mask=states.mask,
            **positions_of(model, states.mask, start),
            **kwargs,
        )
    if states.plain_head:
        return Differentiable(inputs, start, seen["final"], None, None)
    return Differentiable(inputs, start, seen["final"], seen["head_output"], output.logits)
