"""Attention of a replayed suffix over a long cache, without expanding the cache and without its gradient.

Most models have several query heads for each key head. transformers repeats keys and values for every query
head when a mask is given, which for a replay would copy, and keep for the backward pass, the whole cache
several times over; PyTorch's kernels then compute a gradient for every key, of which only those of the
suffix are wanted. Here the query heads of a group are stacked along the positions, and nothing of the size
of queries × keys outlives a layer: the backward pass computes the weights again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "guardrail_suffix"


class _SuffixAttention(torch.autograd.Function):
    """Softmax attention of S queries for each of G heads over K keys, of which the last S are their own.

    Shapes: queries B × heads × G·S × D, keys and values B × heads × K × D, hidden B × 1 × S × K.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, hidden: Tensor, scale: float) -> Tensor:
        output = _weights(query, key, hidden, scale) @ value
        ctx.save_for_backward(query, key, value, hidden, output)
        ctx.scale = scale
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value, hidden, output = ctx.saved_tensors
        own = hidden.shape[-2]
        weights = _weights(query, key, hidden, ctx.scale)
        of_value = torch.zeros_like(value)
        of_value[..., -own:, :] = weights[..., -own:].mT @ grads[0]
        of_products = (grads[0] @ value.mT).sub_((grads[0] * output).sum(-1, keepdim=True)).mul_(weights)
        of_key = torch.zeros_like(key)
        of_key[..., -own:, :] = (of_products[..., -own:].mT @ query).mul_(ctx.scale)
        return (of_products @ key).mul_(ctx.scale), of_key, of_value, None, None


_attend: Callable[..., Tensor] = _SuffixAttention.apply


def _weights(query: Tensor, key: Tensor, hidden: Tensor, scale: float) -> Tensor:
    products = (query @ key.mT).mul_(scale)
    grouped = products.unflatten(2, (-1, hidden.shape[-2]))
    grouped.masked_fill_(hidden[:, :, None], -torch.inf)
    return products.softmax(-1)


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
    stacked = query.reshape(batch, key.shape[1], -1, size)
    if query.dtype in (torch.float32, torch.float64):
        output = _attend(stacked, key, value, ~mask, scaling or size**-0.5)
    else:
        # In half precision the products have to be held in float32, which PyTorch's kernels do.
        mask = mask.repeat(1, 1, heads // key.shape[1], 1)
        output = nn.functional.scaled_dot_product_attention(stacked, key, value, mask, scale=scaling)
    return output.reshape(batch, heads, length, value.shape[-1]).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, suffix_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


@contextmanager
def attending_from_suffix(model: PreTrainedModel, config: Any) -> Iterator[None]:
    """Use this attention where the model would use PyTorch's scaled dot-product attention."""
    implementation = config._attn_implementation
    # Elsewhere the name of the implementation chooses among the model's own ones (Falcon): leave it.
    if implementation != "sdpa" or not model._supports_attention_backend:
        yield
        return
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = implementation
