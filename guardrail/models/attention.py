"""Attention over a long cache without expanding it: queries that share a key head are stacked.

Most models have several query heads for each key head. transformers repeats keys and values for every query
head when a mask is given, which for a replayed suffix would copy, and keep for the backward pass, the whole
cache several times over. Stacking the query heads of a group along the positions gives the same numbers and
copies nothing.
"""

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "guardrail_grouped_sdpa"


def grouped_sdpa(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention in the form transformers' attention interface asks for.

    Args:
        module: The attention module that calls.
        query: Queries (B × heads × S × D).
        key: Keys (B × key heads × K × D).
        value: Values (B × key heads × K × D).
        attention_mask: True where a query may look (B × 1 × S × K).
        scaling: Factor on the products; 1/√D if not given.
        **kwargs: What else the model passes on; a position bias is left to transformers.

    Returns:
        The attended values (B × S × heads × D), and no weights.
    """
    batch, heads, length, size = query.shape
    groups = heads // key.shape[1]
    shared_mask = attention_mask is not None and attention_mask.shape[1] == 1
    if groups == 1 or not shared_mask or kwargs.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    output = nn.functional.scaled_dot_product_attention(
        query.reshape(batch, key.shape[1], groups * length, size),
        key,
        value,
        attn_mask=attention_mask.repeat(1, 1, groups, 1) if attention_mask is not None else None,
        scale=scaling,
    )
    return output.reshape(batch, heads, length, value.shape[-1]).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, grouped_sdpa)
AttentionMaskInterface.register(NAME, sdpa_mask)


@contextmanager
def grouped_attention(config: Any) -> "Iterator[None]":
    """Use grouped attention where the model would use PyTorch's scaled dot-product attention."""
    implementation = config._attn_implementation
    if implementation != "sdpa":
        yield
        return
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = implementation


