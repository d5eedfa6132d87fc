"""The input-embedding path of a tied head, for the numbers that autograd on the shared weight gives."""

import torch
from torch import Tensor, nn

from guardrail.models.local import LocalModel
from guardrail.models.replay import run_from_embedding
from guardrail.scoring.batch import Batch


def embedding_gradients(model: LocalModel, batch: Batch, by_final: Tensor) -> list[Tensor] | None:
    """Gradient of each response's loss by the input embedding, or None where the head has its own weight.

    Args:
        model: The model.
        batch: The responses.
        by_final: Gradient of the losses by the head's input (B × T × d).

    Returns:
        For each response a V × d tensor, which is why this is an ablation and not the default.
    """
    embedding = model.model.get_input_embeddings().weight
    tied = getattr(model.anatomy.head, "weight", None) is embedding
    if not tied or not isinstance(embedding, nn.Parameter):
        return None
    gradients = []
    with run_from_embedding(model.model, model.anatomy, batch.states, embedding) as run:
        for row in batch.rows:
            alone = torch.zeros_like(by_final)
            alone[row] = by_final[row]
            (gradient,) = torch.autograd.grad(
                run.final, embedding, alone.to(run.final.dtype), retain_graph=True
            )
            gradients.append(gradient)
    return gradients
