"""Whether the truncated backward holds for an architecture: if unknown, compare it with the full one once."""

from collections.abc import Sequence

import torch
import transformers
from torch import Tensor

from guardrail.errors import ScoringError
from guardrail.models.local import LocalModel
from guardrail.models.prompt import EncodedPrompt
from guardrail.models.replay.caches import CachedActivations
from guardrail.models.replay.replay import Differentiable, replay, run_whole
from guardrail.models.replay.transformers_internals import missing_internal, quiet_transformers
from guardrail.models.trace import Trace, agree

# Families whose scores the tests compare with plain autograd (tests/scoring/test_architectures.py).
VERIFIED = frozenset(
    {
        "bloom",
        "cohere",
        "cohere2",
        "ernie4_5",
        "exaone4",
        "falcon",
        "gemma",
        "gemma2",
        "gemma3_text",
        "glm4",
        "gpt2",
        "gpt_bigcode",
        "gpt_neox",
        "gpt_oss",
        "granite",
        "llama",
        "mistral",
        "mixtral",
        "olmo2",
        "olmo3",
        "opt",
        "phi",
        "phi3",
        "qwen2",
        "qwen3",
        "qwen3_moe",
        "seed_oss",
        "smollm3",
        "stablelm",
        "starcoder2",
    }
)
_PROMPT, _RESPONSE, _SEMANTIC_TOKEN = 8, 4, -4


def fallback_reason(model: LocalModel) -> str:
    """Why a model must be scored by the full backward; empty where the truncated one holds. Tried once.

    Raises:
        ScoringError: Nothing can be scored: its answers depend on what comes after them.
    """
    if model.fallback_reason is None:
        model.fallback_reason = _unsupported() if is_verified(model) else _try_out(model)
    return model.fallback_reason


def is_verified(model: LocalModel) -> bool:
    """Whether the model is of a verified family, and all of it transformers' own code."""
    parts = (model.model, model.model.get_decoder(), *model.anatomy.layers)
    own = all(type(part).__module__.startswith("transformers.models.") for part in parts)
    return own and model.anatomy.config.model_type in VERIFIED


def _unsupported() -> str:
    missing = missing_internal()
    if not missing:
        return ""
    return f"transformers {transformers.__version__} lacks {missing}, which the truncated backward needs"


def _try_out(model: LocalModel) -> str:
    size = model.vocabulary_size
    ids = [(13 + 17 * at) % size for at in range(_PROMPT + _RESPONSE)]
    trace = model.read_encoded([EncodedPrompt(ids[:_PROMPT], _SEMANTIC_TOKEN)], [ids[_PROMPT:]])[0]
    _check_reading(model, ids, trace)
    states = trace.states
    unsupported = _unsupported()
    if unsupported or states is None:
        return unsupported
    count = len(model.anatomy.layers)
    name = model.anatomy.config.model_type
    for layers in (range(count - count // 2, count), range(count)):
        whole = _gradients(run_whole(model.model, model.anatomy, states, layers), states, layers)
        try:
            run = replay(model.model, model.anatomy, states, _PROMPT + _SEMANTIC_TOKEN, layers)
            truncated = _gradients(run, states, layers) if run else None
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            said = " ".join(str(error).split())[:100]
            return (
                f"the truncated backward does not work for {name}: {type(error).__name__} when tried ({said})"
            )
        if truncated and not all(map(agree, truncated, whole)):
            return f"the truncated backward gives other gradients for {name}, as was found when it was tried"
    return ""


def _gradients(run: Differentiable, states: CachedActivations, layers: Sequence[int]) -> list[Tensor]:
    """The gradient of some function of the final hidden states by the input of each layer at t*."""
    ramp = torch.arange(run.final.numel(), device=run.final.device)
    some = torch.sin(ramp.double()).to(run.final.dtype).view_as(run.final)
    gradients = torch.autograd.grad(run.final, [run.inputs[layer] for layer in layers], some)
    return [gradient[:, states.prompt_width + _SEMANTIC_TOKEN - run.start] for gradient in gradients]


@torch.no_grad()
def _check_reading(model: LocalModel, ids: list[int], trace: Trace) -> None:
    """Compare what was read with what the model says of the bare tokens, and of fewer of them."""
    tokens = torch.tensor([ids], device=model.model.device)
    said = []
    with quiet_transformers():  # it asks for a mask, whose absence is the point
        for at in range(_PROMPT, len(ids)):
            # One token more than what is known: a decoder never looks at it, an encoder does.
            logits = model.model(input_ids=tokens[:, : at + 1], use_cache=False).logits[0, at - 1]
            said.append(torch.log_softmax(logits.float(), dim=-1)[ids[at]])
    if not agree(torch.stack(said).cpu().to(model.model.dtype), torch.tensor(trace.log_probabilities)):
        raise ScoringError(
            f"{model.name} ({model.anatomy.config.model_type}) does not read from left to right as a causal "
            "language model does: token by token it gives other probabilities than in one piece."
        )
