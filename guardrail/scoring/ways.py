"""Which way the gradients are computed: the short one where it holds, the plain one by name elsewhere."""

from collections.abc import Sequence
from typing import NamedTuple

from guardrail.models.local import LocalModel
from guardrail.models.replay import Differentiable, replay, run_whole
from guardrail.scoring.batch import Batch
from guardrail.scoring.options import Computation, ScoringOptions
from guardrail.scoring.verification import distrust_of


class Way(NamedTuple):
    """A forward pass with a graph, how it was made, and why, where it is not the short way."""

    run: Differentiable
    computation: Computation
    reason: str


def differentiable(model: LocalModel, batch: Batch, layers: Sequence[int], options: ScoringOptions) -> Way:
    """Run what is needed for the gradients at t*: only what follows it, where the architecture allows."""
    arguments = (model.model, model.anatomy, batch.states)
    distrust = distrust_of(model)
    if options.computation == "plain":
        return Way(run_whole(*arguments, layers), "plain", "asked for")
    if options.include_tied_embedding:
        return Way(run_whole(*arguments, layers), "plain", "the path by the input embedding was asked for")
    if distrust:
        return Way(run_whole(*arguments, layers), "plain", distrust)
    start = min(batch.columns)
    if not bool(batch.states.mask[:, start].all()):
        return Way(run_whole(*arguments, layers), "plain", "a prompt of the batch begins after t* of another")
    run = replay(*arguments, start, layers)
    if run is None:
        return Way(run_whole(*arguments, layers), "plain", "its cache cannot be run again from t*")
    return Way(run, "short", "")
