"""Where a causal language model keeps its layers and head, and the positions of a padded batch."""

import inspect
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from guardrail.errors import ModelReferenceError, OptionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The decoder layers and the head of a causal language model.

    Attributes:
        layers: The decoder layers, first to last.
        head: The module that turns final hidden states (… × d) into logits (… × V).
        config: The configuration of the text decoder.
    """

    layers: "Sequence[nn.Module]"
    head: nn.Module
    config: Any

    @property
    def upper_half(self) -> range:
        """Indices of the upper half of the layers, L − ⌊L/2⌋ … L − 1."""
        count = len(self.layers)
        return range(count - count // 2, count)

    def layers_at(self, depths: "Sequence[float]") -> list[int]:
        """Indices of the layers at these fractions of the depth.

        Raises:
            OptionError: One is no fraction.
        """
        count = len(self.layers)
        for depth in depths:
            if not 0 <= depth < 1:
                raise OptionError(f"depth {depth} is not a fraction of the layers, at least 0 and below 1.")
        return sorted({min(round(depth * count), count - 1) for depth in depths})

    @property
    def context_length(self) -> int | None:
        """The largest number of positions the model was made for, if its configuration says."""
        length = getattr(self.config, "max_position_embeddings", None)
        return int(length) if length else None

    @property
    def rope_switch(self) -> int | None:
        """The length beyond which all positions are turned by other angles (LongRoPE), if there is one."""
        given = getattr(self.config, "rope_parameters", None) or {}
        # Some models have one set of parameters for each type of layer.
        sets = [given, *(value for value in given.values() if isinstance(value, dict))]
        found = [
            each["original_max_position_embeddings"] for each in sets if each.get("rope_type") == "longrope"
        ]
        return min(found, default=None)


def dissect(model: "PreTrainedModel") -> Anatomy:
    """Find the decoder layers and the head of a model.

    Raises:
        ModelReferenceError: The model is not a decoder with a list of layers and a language-model head.
    """
    config = model.config.get_text_config(decoder=True)
    head = model.get_output_embeddings()
    count = getattr(config, "num_hidden_layers", None)
    stacks = [
        module
        for module in model.get_decoder().modules()
        if isinstance(module, nn.ModuleList) and len(module) == count
    ]
    # Of a single layer there is no upper half.
    if head is None or not stacks or len(stacks[0]) < 2:
        raise ModelReferenceError(
            f"{type(model).__name__} has no stack of decoder layers with a language-model head; "
            "guardrail scores causal language models (AutoModelForCausalLM)."
        )
    return Anatomy(layers=tuple(stacks[0]), head=head, config=config)


def layer_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The hidden states among the arguments of a decoder layer's forward."""
    states = args[0] if args else kwargs["hidden_states"]
    if not isinstance(states, Tensor):
        raise TypeError(f"a decoder layer was called with {type(states).__name__}, not with hidden states")
    return states


def with_layer_input(
    args: tuple[Any, ...], kwargs: dict[str, Any], states: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same arguments with other hidden states."""
    return ((states, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": states})


@contextmanager
def passing_through(layers: "Sequence[nn.Module]", returned: int) -> "Iterator[None]":
    """Let these layers hand on their input untouched, so that only the layers after them are run.

    Args:
        layers: The layers.
        returned: How many values a layer returns in a tuple; 0 where it returns hidden states as they are.
    """

    def identity(*args: Any, **kwargs: Any) -> Any:
        states = layer_input(args, kwargs)
        return (states, *[None] * (returned - 1)) if returned else states

    with _forward_replaced(layers, identity):
        yield


@contextmanager
def predicting(head: nn.Module, count: int) -> "Iterator[None]":
    """Let the head see the last ``count`` columns only.

    A model's own ``logits_to_keep`` will not do: some drop the other columns long before the head.
    """

    def last_columns(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0][:, -count:], *args[1:])

    handle = head.register_forward_pre_hook(last_columns)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def headless(head: nn.Module) -> "Iterator[None]":
    """Spare the product with the vocabulary: the head returns one column of its input instead of logits."""

    def first_column(states: Tensor) -> Tensor:
        return states[..., :1]

    with _forward_replaced([head], first_column):
        yield


@contextmanager
def _forward_replaced(modules: "Sequence[nn.Module]", forward: Any) -> "Iterator[None]":
    # Accelerate keeps its own forward as an instance attribute, which has to come back as it was.
    kept = [module.__dict__.get("forward") for module in modules]
    try:
        for module in modules:
            module.forward = forward
        yield
    finally:
        for module, before in zip(modules, kept, strict=True):
            if before is None:
                del module.forward
            else:
                module.forward = before


def positions_of(model: "PreTrainedModel", mask: Tensor, start: int) -> dict[str, Tensor]:
    """The ``position_ids`` argument for the columns from ``start`` on, as ``generate`` would give it.

    Args:
        model: The model that will be called.
        mask: 1 where a column holds a token, 0 where it pads (B × columns).
        start: First column that will be run.

    Returns:
        The keyword argument, or none for a model that works positions out from the mask.
    """
    if "position_ids" not in _parameters(type(model).forward):
        return {}
    positions = (mask.long().cumsum(-1) - 1).masked_fill(mask == 0, 0)
    return {"position_ids": positions[:, start:]}


@lru_cache
def _parameters(forward: Callable[..., object]) -> frozenset[str]:
    return frozenset(inspect.signature(forward).parameters)
