"""Position ids of a left-padded batch, for the models that take them."""

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
