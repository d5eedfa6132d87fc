"""The definitions of arXiv 2605.04638 by plain autograd: the whole sequence, every gradient, nothing spared.

It shares no code with guardrail.scoring and is right wherever a model's own forward is, only slower.
"""

from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from math import exp, sqrt

import torch
from torch import nn


@dataclass(frozen=True)
class Scores:
    hybridgrad: float
    semgrad: float
    paragrad: float
    exgrad: float
    mean_entropy: float
    log_likelihood: float
    log_probabilities: list[float]
    entropies: list[float]


def part(model: nn.Module, path: str) -> nn.Module:
    return reduce(getattr, path.split("."), model)


def reference_scores(
    model,
    prompt_ids,
    response_ids,
    *,
    semantic_token: int,
    layers_path: str = "model.layers",
    layers: str = "upper",
    reduction: str = "sum",
    norm: str = "l1",
    entropy_weight: bool = True,
    tied: bool = False,
    span: tuple[int, int] | None = None,
    spare_logits: bool = False,
) -> Scores:
    """Every score of a response.

    Args:
        model: The model.
        prompt_ids: The prompt.
        response_ids: The response.
        semantic_token: t*, from the end of the prompt.
        layers_path: Where the model keeps its decoder layers.
        layers: Whose inputs SemGrad looks at.
        reduction: Of the loss.
        norm: Of the gradients.
        entropy_weight: Whether the loss of a token is weighed by its entropy.
        tied: Whether ParaGrad is the gradient by the shared weight, input embedding included.
        span: The response tokens that the loss is made of; all of them if not given.
        spare_logits: Have no logits of the prompt, of which the loss takes none: of a model of many words
            they are most of the work. Not every model can be asked that.
    """
    stack = list(part(model, layers_path))
    ids = torch.tensor([[*prompt_ids, *response_ids]], device=model.device)
    with _differentiable(model, untied=not tied) as weight, torch.enable_grad():
        kept = len(response_ids) + 1
        inputs, logits = _forward(model, stack, ids, **({"logits_to_keep": kept} if spare_logits else {}))
        log_p = torch.log_softmax(_at_least_float32(logits[0, -kept:-1]), dim=-1)
        probabilities = log_p.exp()
        entropies = -torch.where(probabilities > 0, probabilities * log_p, 0.0).sum(-1).detach()
        taken = log_p[torch.arange(len(response_ids)), torch.tensor(response_ids, device=log_p.device)]
        inside = slice(*(span or (0, len(response_ids))))
        entropies, taken = entropies[inside], taken[inside]
        share = 1 / len(taken) if reduction == "mean" else 1.0
        loss = -share * ((entropies if entropy_weight else 1.0) * taken).sum()
        unweighted = -share * taken.sum()
        count = len(stack)
        wanted = {
            "upper": range(count - count // 2, count),
            "lower": range(count - count // 2),
            "last": [count - 1],
            "all": range(count),
        }[layers]
        by_hidden = torch.autograd.grad(loss, [inputs[layer] for layer in wanted], retain_graph=True)
        (by_weight,) = torch.autograd.grad(loss, weight, retain_graph=True)
        (by_weight_unweighted,) = torch.autograd.grad(unweighted, weight)
    at = len(prompt_ids) + semantic_token
    semgrad = _size(torch.stack([gradient[0, at] for gradient in by_hidden]), norm)
    paragrad = _size(by_weight, norm)
    mean_entropy = float(entropies.mean())
    return Scores(
        hybridgrad=(1 - exp(-mean_entropy)) * semgrad + exp(-mean_entropy) * paragrad,
        semgrad=semgrad,
        paragrad=paragrad,
        exgrad=_size(by_weight_unweighted, norm),
        mean_entropy=mean_entropy,
        log_likelihood=float(taken.detach().sum()),
        log_probabilities=taken.tolist(),
        entropies=entropies.tolist(),
    )


def _forward(model, stack, ids, **options):
    """The inputs of every decoder layer as they stand in the graph, and the logits."""
    inputs: dict[int, torch.Tensor] = {}

    def note(index):
        def hook(_module, args, kwargs):
            inputs[index] = args[0] if args else kwargs["hidden_states"]

        return hook

    hooks = [
        layer.register_forward_pre_hook(note(i), with_kwargs=True, prepend=True)
        for i, layer in enumerate(stack)
    ]
    try:
        logits = model(input_ids=ids, use_cache=False, **options).logits
    finally:
        for hook in hooks:
            hook.remove()
    return inputs, logits


@contextmanager
def _differentiable(model, *, untied: bool):
    """Let the graph begin at the input embedding, and give the head a weight of its own."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings().weight
    shared = head.weight
    if untied:
        head.weight = nn.Parameter(shared.detach().clone())
    else:
        head.weight.requires_grad_(True)
    embedding.requires_grad_(True)
    try:
        yield head.weight
    finally:
        head.weight = shared
        shared.requires_grad_(False)
        embedding.requires_grad_(False)


def _size(gradient: torch.Tensor, norm: str) -> float:
    # By pieces: whole copies in float64 of the gradient of a large head take longer than the gradient itself.
    pieces = (piece.double() for piece in gradient.flatten().split(2**20))
    if norm == "l1":
        return sum(float(piece.abs().sum()) for piece in pieces) / gradient.numel()
    return sqrt(sum(float(piece.square().sum()) for piece in pieces) / gradient.numel())


def _at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
