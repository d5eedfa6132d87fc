"""Attention of a replayed suffix over a long cache, and the layers of that cache.

A sliding-window layer keeps, and a layer to be replayed reads again, what a truncated backward looks back at.

Most models have several query heads for each key head. transformers repeats keys and values for every query
head when a mask is given, which for a replay would copy, and keep for the backward pass, the whole cache
several times over; PyTorch's kernels then compute a gradient for every key, of which only those of the
suffix are wanted. Here the query heads of a group are stacked along the positions, and nothing of the size
of queries × keys outlives a layer: the backward pass computes the weights again. What was attended to when
the response was generated is kept, so the forward pass need not compute them at all. Nothing of the cache is
expanded.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from guardrail.models.replay.caches import CachedOutputs
from guardrail.models.replay.transformers_internals import (
    AttentionInterface,
    AttentionMaskInterface,
    CacheLayerMixin,
    DynamicSlidingWindowLayer,
    attention_replaced,
    sdpa_attention_forward,
    sdpa_mask,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["ReplayLayer", "RetainingSlidingLayer", "attending_from_suffix", "recording_attention"]


RECORDED, SUFFIX = "guardrail_recorded", "guardrail_suffix"

# Products of these are held as they are; those of half precision in float32, which PyTorch's kernels do.
_OWN_KERNEL = (torch.float32, torch.float64)


class _Replaying:
    """What the layers of one replay have in common.

    Args:
        known: What each attention module gave in the columns of the replay (each B × S × heads × D).
    """

    def __init__(self, known: Mapping[nn.Module, Tensor]) -> None:
        self.known = known
        self._biases: dict[int, tuple[Tensor, Tensor]] = {}

    def bias(self, mask: Tensor, dtype: torch.dtype) -> Tensor:
        """The mask as something to add: 0 where a query may look, −∞ where not. Made once for all layers."""
        if id(mask) not in self._biases:
            bias = torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -torch.inf)
            # With the mask itself, or its id could become another's.
            self._biases[id(mask)] = mask, bias
        return self._biases[id(mask)][1]


_recording: ContextVar[CachedOutputs] = ContextVar("recording")
_replaying: ContextVar[_Replaying] = ContextVar("replaying")


class _SuffixAttention(torch.autograd.Function):
    """Softmax attention of S queries over K keys, of which the last S are their own.

    Shapes: query B × heads × S × D, key and value B × groups × K × D, bias B × 1 × S × K; output, and what
    is known of it, B × S × heads × D. Within, N = B · groups and R = heads / groups · S.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float, known: Tensor | None
    ) -> Tensor:
        if known is None:
            batch, heads, own, _ = query.shape
            weights = _weights(_stacked(query, key) * scale, key, bias)
            attended = torch.bmm(weights, value.flatten(0, 1)).view(batch, heads, own, -1)
            output = attended.transpose(1, 2).contiguous()
        else:
            output = known.view_as(known)
        ctx.save_for_backward(query, key, value, bias, output)
        ctx.scale = scale
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        query, key, value, bias, output = ctx.saved_tensors
        own = query.shape[2]
        scaled = _stacked(query, key) * ctx.scale
        weights = _weights(scaled, key, bias)
        gradient = _stacked(grads[0].transpose(1, 2), key)
        shares = (grads[0] * output).sum(-1, keepdim=True)
        of_products = torch.bmm(gradient, value.flatten(0, 1).mT)
        of_products.sub_(_stacked(shares.transpose(1, 2), key)).mul_(weights)
        of_query = torch.bmm(of_products, key.flatten(0, 1)).mul_(ctx.scale).view(query.shape)
        of_key = _of_last(key, torch.bmm(of_products[..., -own:].mT, scaled))
        of_value = _of_last(value, torch.bmm(weights[..., -own:].mT, gradient))
        return of_query, of_key, of_value, None, None, None


_attend: Callable[..., Tensor] = _SuffixAttention.apply


def _stacked(states: Tensor, key: Tensor) -> Tensor:
    """The heads that share a key head along the positions: B × heads × S × D to N × R × D."""
    return states.reshape(len(states) * key.shape[1], -1, states.shape[-1])


def _weights(scaled: Tensor, key: Tensor, bias: Tensor) -> Tensor:
    """Softmax of products and bias (N × R × K)."""
    products = torch.bmm(scaled, key.flatten(0, 1).mT)
    products.view(*key.shape[:2], -1, *bias.shape[2:]).add_(bias[:, :, None])
    return products.softmax(-1)


def _of_last(states: Tensor, gradient: Tensor) -> Tensor:
    """A gradient of the last columns (N × S × D), and nothing for those before."""
    own = gradient.view(*states.shape[:2], *gradient.shape[1:])
    return nn.functional.pad(own, (0, 0, states.shape[2] - own.shape[2], 0))


def recorded_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """PyTorch's scaled dot-product attention as transformers calls it; what comes of it is kept."""
    output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    _recording.get().add(module, output)
    return output, None


def suffix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention in the form that transformers' attention interface asks for.

    Args:
        module: The attention module that calls.
        query: Queries (B × heads × S × D).
        key: Keys (B × key heads × K × D), of which the last S belong to the queries' own positions.
        value: Values (B × key heads × K × D).
        attention_mask: True where a query may look (B × 1 × S × K).
        scaling: Factor on the products; 1/√D if not given.
        **kwargs: What else the model passes on; a position bias is left to transformers.

    Returns:
        The attended values (B × S × heads × D), and no weights.
    """
    batch, heads, length, size = query.shape
    mask = attention_mask
    understood = mask is not None and mask.shape[1] == 1 and mask.dtype == torch.bool
    if mask is None or not understood or kwargs.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    scale = scaling or size**-0.5
    if query.dtype in _OWN_KERNEL:
        replaying = _replaying.get()
        known = replaying.known.get(module)
        if known is not None and known.shape != (batch, length, heads, value.shape[-1]):
            known = None  # it looks at other columns now than it did then
        return _attend(query, key, value, replaying.bias(mask, query.dtype), scale, known), None
    stacked = query.reshape(batch, key.shape[1], -1, size)
    mask = mask.repeat(1, 1, heads // key.shape[1], 1)
    output = nn.functional.scaled_dot_product_attention(stacked, key, value, mask, scale=scale)
    return output.reshape(batch, heads, length, value.shape[-1]).transpose(1, 2).contiguous(), None


for _name, _function in ((RECORDED, recorded_attention), (SUFFIX, suffix_attention)):
    AttentionInterface.register(_name, _function)
    AttentionMaskInterface.register(_name, sdpa_mask)


@contextmanager
def recording_attention(model: "PreTrainedModel", config: Any, outputs: CachedOutputs) -> Iterator[None]:
    """Keep what attention gives, where a replay could use it."""
    if model.dtype not in _OWN_KERNEL:
        yield
        return
    token = _recording.set(outputs)
    try:
        with attention_replaced(model, config, RECORDED):
            yield
    finally:
        _recording.reset(token)


@contextmanager
def attending_from_suffix(
    model: "PreTrainedModel", config: Any, known: Mapping[nn.Module, Tensor]
) -> Iterator[None]:
    """Use this attention where the model would use PyTorch's scaled dot-product attention.

    Args:
        model: The model.
        config: Where it says which attention it uses.
        known: What attention modules gave in the columns that are run again.
    """
    token = _replaying.set(_Replaying(known))
    try:
        with attention_replaced(model, config, SUFFIX):
            yield
    finally:
        _replaying.reset(token)


class RetainingSlidingLayer(DynamicSlidingWindowLayer):
    """A sliding-window layer that keeps what a replay of the last columns will look back at.

    The window itself is what attention sees, as in the layer it replaces; behind it, ``extra`` more columns
    of the prompt are kept, and no column of the response is dropped.
    """

    def __init__(self, sliding_window: int, extra: int) -> None:
        super().__init__(sliding_window)
        self.extra = extra

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Keep these, and return what attention sees of all that was kept."""
        count = key_states.shape[-2]
        self.cumulative_length += count
        if self.keys is None or self.values is None:
            self.lazy_initialization(key_states, value_states)
            behind = self.sliding_window - 1 + self.extra
            # A slice would hold on to the memory of the whole prompt.
            self.keys = key_states[..., -behind:, :].clone()
            self.values = value_states[..., -behind:, :].clone()
            return key_states, value_states
        self.keys = keys = torch.cat([self.keys, key_states], dim=-2)
        self.values = values = torch.cat([self.values, value_states], dim=-2)
        visible = self.sliding_window - 1 + count
        return keys[..., -visible:, :], values[..., -visible:, :]


class _LeadBack(torch.autograd.Function):
    """The kept keys (or values) of all columns; their gradient at the suffix goes to the fresh ones."""

    @staticmethod
    def forward(ctx: Any, fresh: Tensor, kept: Tensor) -> Tensor:
        ctx.count = fresh.shape[-2]
        return kept.view_as(kept)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0][..., -ctx.count :, :], None


_lead_back: Callable[..., Tensor] = _LeadBack.apply


class ReplayLayer(CacheLayerMixin):
    """One layer of a filled cache, read again from column ``start`` on."""

    def __init__(self, keys: Tensor, values: Tensor, start: int, offset: int, sliding: bool) -> None:
        # transformers does not annotate it.
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys, self.values = keys, values
        self.start, self.offset, self.length = start, offset, keys.shape[-2]
        self.is_sliding = sliding
        self.is_initialized = True

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Nothing to do: the layer is filled."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Return all that is kept, of which these are the last columns."""
        return _lead_back(key_states, self.keys), _lead_back(value_states, self.values)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """How many columns there are, and how many there were before them."""
        return self.length, self.offset

    def get_seq_length(self) -> int:
        """The column that is run next."""
        return self.start

    def get_max_length(self) -> int:
        """No bound."""
        return -1
