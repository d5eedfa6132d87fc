"""Hooks that keep, while the model runs anyway, what scoring would otherwise have to compute again."""

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from torch import Tensor, nn

from guardrail.models.anatomy import Anatomy, layer_input
from guardrail.models.attention import recording_attention
from guardrail.models.linears import linear_maps, watched
from guardrail.models.outputs import KeptOutputs, last_columns

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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
        self.outputs = KeptOutputs(
            (module for above in anatomy.layers[layer:] for module in above.modules()), tail
        )
        self._logits_budget, self._logits_bytes = logits_budget, 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
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
        self._stack.enter_context(recording_attention(self.model, self.anatomy.config, self.outputs))
        return self

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
        if self.logits is None:
            return
        self.logits.append(last_columns(output.logits, self.predicted))
        self._logits_bytes += self.logits[-1].nbytes
        if self._logits_budget is not None and self._logits_bytes > self._logits_budget:
            self.logits = None
