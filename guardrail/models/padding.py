"""Whether prompts of unequal length can share a batch: padding has to leave no trace in what follows it."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from guardrail.models.anatomy import Anatomy, predicting
from guardrail.models.positions import positions_of
from guardrail.models.statistics import agree

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# A convolution that leaks looks back a few tokens; learned positions are off by as much as there is padding.
_PADDING, _TOKENS = 5, 6


@torch.no_grad()
def sees_padding(model: "PreTrainedModel", anatomy: Anatomy) -> bool:
    """Whether a prompt is read differently behind padding, as by decoders that count every column.

    Args:
        model: The model.
        anatomy: Its parts.
    """
    embedding: Any = model.get_input_embeddings()
    size = int(embedding.weight.shape[0])
    tokens = torch.tensor([[(11 + 7 * at) % size for at in range(_TOKENS)]], device=model.device)
    padded = torch.cat([tokens.new_zeros(1, _PADDING), tokens], dim=1)
    mask = torch.ones_like(padded)
    mask[:, :_PADDING] = 0
    with predicting(anatomy.head, 1):
        alone = _logits(model, tokens, torch.ones_like(tokens))
        behind = _logits(model, padded, mask)
    return not agree(behind, alone)


def _logits(model: "PreTrainedModel", ids: Tensor, mask: Tensor) -> Tensor:
    output = model(input_ids=ids, attention_mask=mask, use_cache=False, **positions_of(model, mask, 0))
    logits: Tensor = output.logits
    return logits
