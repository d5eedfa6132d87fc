"""The last columns of a finished run computed once more with gradients, from what a recorder kept.

Outputs of linear layers that are known are not computed again, and small products use all cores.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import torch
from torch import Tensor, autograd, nn

from guardrail.models.replay.architecture import (
    Anatomy,
    headless,
    layer_input,
    passing_through,
    positions_of,
    predicting,
    with_layer_input,
)
from guardrail.models.replay.caches import CachedActivations, CachedOutputs, last_columns, replay_cache
from guardrail.models.replay.transformers_internals import missing_internal

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# With more rows, or a smaller weight, the library's own way of sharing a product out is as fast or faster.
_MOST_ROWS = 128
_SMALLEST_WEIGHT_BYTES = 2**20


def product(rows: Tensor, weight: Tensor) -> Tensor:
    """The product of some rows with a weight.

    BLAS hardly parallelises a product with some twenty rows. Splitting it along the summed dimension, one
    part for each thread, does: 1.2 to 1.5 times as fast with two threads and 18 to 22 rows in float32.

    Args:
        rows: The rows (… × K).
        weight: The weight (K × N).

    Returns:
        Their product (… × N).
    """
    flat = rows.reshape(-1, rows.shape[-1])
    parts = torch.get_num_threads()
    shared = (
        parts > 1
        and rows.device.type == "cpu"
        and rows.dtype == weight.dtype == torch.float32
        and flat.shape[0] <= _MOST_ROWS
        and weight.nbytes >= _SMALLEST_WEIGHT_BYTES
        and len(weight) % parts == 0
    )
    if not shared:
        return rows @ weight
    by_part = flat.view(flat.shape[0], parts, -1).transpose(0, 1)
    sums = torch.bmm(by_part, weight.view(parts, -1, weight.shape[1]))
    return sums.sum(0).view(*rows.shape[:-1], -1)


# A smaller weight is multiplied again sooner than its outputs are kept and put together.
SMALLEST_WEIGHT_BYTES = 2**18


def linear_maps(layers: Sequence[nn.Module]) -> list[nn.Linear]:
    """The linear maps within these layers whose weight is an ordinary tensor in memory."""
    return [
        module
        for layer in layers
        for module in layer.modules()
        if type(module) is nn.Linear
        and module.weight.is_floating_point()
        and module.weight.device.type != "meta"
        and module.weight.nbytes >= SMALLEST_WEIGHT_BYTES
        and "forward" not in module.__dict__  # accelerate moves the weights of such a module in and out
    ]


@contextmanager
def watched(maps: Sequence[nn.Linear], outputs: CachedOutputs) -> Iterator[None]:
    """Keep what linear maps give while the context is open."""

    def watching(module: nn.Linear) -> Callable[[Tensor], Tensor]:
        linear, weight, bias = nn.functional.linear, module.weight, module.bias
        keep = outputs.keep

        def first(states: Tensor) -> Tensor:
            output = linear(states, weight, bias)
            outputs.add(module, output)
            vars(module)["forward"] = forward
            return output

        def forward(states: Tensor) -> Tensor:
            output = linear(states, weight, bias)
            keep((module, output))
            return output

        return first

    # A replaced forward costs less than a hook, and this runs for every map and token.
    with _forwards({module: watching(module) for module in maps}):
        yield


class _Remembered(autograd.Function):
    """A linear map whose output is known: nothing is multiplied forward, the gradient is led back as ever."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, output: Tensor) -> Tensor:
        ctx.weight = weight
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return product(grads[0], ctx.weight), None, None


_remember: Callable[..., Tensor] = _Remembered.apply


@contextmanager
def remembered(outputs: Mapping[nn.Linear, Tensor]) -> Iterator[None]:
    """Let linear maps answer with these outputs instead of multiplying."""

    def answering(module: nn.Linear, output: Tensor) -> Callable[[Tensor], Tensor]:
        def forward(states: Tensor) -> Tensor:
            if states.shape[:-1] != output.shape[:-1]:  # it looks at other columns now than it did then
                return nn.functional.linear(states, module.weight, module.bias)
            return _remember(states, module.weight, output)

        return forward

    with _forwards({module: answering(module, output) for module, output in outputs.items()}):
        yield


@contextmanager
def _forwards(replacements: Mapping[nn.Linear, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    for module, forward in replacements.items():
        # Not by setattr, in which a module looks for parameters.
        vars(module)["forward"] = forward
    try:
        yield
    finally:
        for module in replacements:
            del vars(module)["forward"]


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
    model: "PreTrainedModel", anatomy: Anatomy, states: CachedActivations, start: int, layers: Sequence[int]
) -> Differentiable | None:
    """Run the columns from ``start`` on again over the kept cache, with a graph from the lowest layer on.

    A hidden state cannot influence the positions before it, nor the layers below: neither has to be run, and
    this gives the total derivatives at any position from ``start`` on (docs/explanation/method.md, "What need
    not be computed").

    Returns:
        The pass, or None where the kept cache cannot be replayed.
    """
    cache = replay_cache(states.cache, states.columns, start)
    if cache is None:
        return None
    from guardrail.models.replay.attention import attending_from_suffix

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
    model: "PreTrainedModel", anatomy: Anatomy, states: CachedActivations, layers: Sequence[int]
) -> Differentiable:
    """Run every column from the beginning, without a cache: right for any architecture, and dearer."""
    return run_with_graph(model, anatomy, states, 0, layers, None, use_cache=False)


@contextmanager
def run_from_embedding(
    model: "PreTrainedModel", anatomy: Anatomy, states: CachedActivations, embedding: nn.Parameter
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
    states: CachedActivations,
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


# Beyond this the logits of a batch are dropped; the head gives them again, block by block.
LOGITS_BUDGET_BYTES = 256 * 2**20


class Recorder:
    """Watches the first (prompt) and the following (one token each) forward passes of a generation.

    Used as a context manager around ``generate``, or around one forward pass over prompt and response.

    Args:
        model: The model to watch.
        anatomy: Its parts.
        layer: The decoder layer whose inputs are kept.
        depths: Further layers whose inputs are kept where response tokens are predicted.
        tail: How many of the first pass's last columns are kept of ``layer``'s inputs.
        predicted: How many of the first pass's last columns predict response tokens.
        logits_budget: Bytes of logits that may be kept; None for no bound.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        anatomy: Anatomy,
        layer: int,
        depths: Sequence[int],
        tail: int,
        predicted: int = 1,
        logits_budget: int | None = LOGITS_BUDGET_BYTES,
    ) -> None:
        self.model, self.anatomy = model, anatomy
        self.layer, self.tail, self.predicted = layer, tail, predicted
        self.entering: list[Tensor] = []
        self.final: list[Tensor] = []
        self.logits: list[Tensor] | None = []
        self.inputs: dict[int, list[Tensor]] = {depth: [] for depth in depths}
        self.outputs = CachedOutputs(
            (module for above in anatomy.layers[layer:] for module in above.modules()), tail
        )
        # Keys and values so far, where the model gives them.
        self.cache: Any = None
        self._logits_budget, self._logits_bytes = logits_budget, 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._watch()
        return self

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Let the model be run for something else between two passes of a generation."""
        self._stack.close()
        try:
            yield
        finally:
            self._watch()

    def _watch(self) -> None:
        layers = self.anatomy.layers
        hooks = [
            layers[self.layer].register_forward_pre_hook(
                self._keeper(self.entering, self.tail), with_kwargs=True
            ),
            self.anatomy.head.register_forward_pre_hook(self._keep_final),
            self.model.register_forward_hook(self._end_pass),
        ]
        for depth, kept in self.inputs.items():
            hook = self._keeper(kept, self.predicted)
            hooks.append(layers[depth].register_forward_pre_hook(hook, with_kwargs=True))
        for handle in hooks:
            self._stack.callback(handle.remove)
        maps = linear_maps(layers[self.layer :])
        self._stack.enter_context(watched(maps, self.outputs))
        if not missing_internal():
            from guardrail.models.replay.attention import recording_attention

            self._stack.enter_context(recording_attention(self.model, self.anatomy.config, self.outputs))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _keeper(self, kept: list[Tensor], tail: int) -> Any:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            kept.append(last_columns(layer_input(args, kwargs), tail))

        return hook

    def _keep_final(self, _module: nn.Module, args: tuple[Any, ...]) -> None:
        self.final.append(last_columns(args[0], self.predicted))

    def _end_pass(self, _module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        self.outputs.end_pass()
        self.cache = getattr(output, "past_key_values", None)
        if self.logits is None:
            return
        self.logits.append(last_columns(output.logits, self.predicted))
        self._logits_bytes += self.logits[-1].nbytes
        if self._logits_budget is not None and self._logits_bytes > self._logits_budget:
            self.logits = None
