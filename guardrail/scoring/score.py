"""Scores of finished responses, one or a batch of unequal lengths, by truncated or full backward.

Whether the truncated backward holds for an architecture that is not known is found out once, by comparing it
with the full one.
"""

import time
from collections.abc import Sequence
from itertools import chain
from math import exp, isfinite
from typing import NamedTuple

import torch
import transformers
from torch import Tensor, nn

from guardrail.errors import OptionError, ScoringError
from guardrail.models.decoding import decode
from guardrail.models.local import LocalModel
from guardrail.models.prompt import EncodedPrompt
from guardrail.models.replay.caches import CachedActivations
from guardrail.models.replay.replay import Differentiable, replay, run_from_embedding, run_whole
from guardrail.models.replay.transformers_internals import missing_internal, quiet_transformers
from guardrail.models.trace import Trace, agree, at_least_float32
from guardrail.scoring.gradients import (
    Batch,
    ScoredSpan,
    head_gradients,
    lay_out,
    semgrad,
    unweighted_by_logits,
)
from guardrail.scoring.options import Computation, ScoringOptions
from guardrail.scoring.uncertainty import (
    SemanticToken,
    TokenScore,
    Uncertainty,
    combine,
    perplexity,
    token_weights,
)

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


class ScoringPass(NamedTuple):
    """A forward pass with a graph, which backward it leads to, and the reason where that is the full one."""

    run: Differentiable
    computation: Computation
    reason: str


def differentiable(
    model: LocalModel, batch: Batch, layers: Sequence[int], options: ScoringOptions
) -> ScoringPass:
    """Run what is needed for the gradients at t*: only what follows it, where the architecture allows."""
    arguments = (model.model, model.anatomy, batch.states)
    reason = fallback_reason(model)
    if options.computation == "full":
        return ScoringPass(run_whole(*arguments, layers), "full", "asked for")
    if options.include_tied_embedding:
        return ScoringPass(
            run_whole(*arguments, layers), "full", "the path by the input embedding was asked for"
        )
    if reason:
        return ScoringPass(run_whole(*arguments, layers), "full", reason)
    if not bool(batch.states.mask[:, batch.start].all()):
        return ScoringPass(
            run_whole(*arguments, layers), "full", "a prompt of the batch begins after t* of another"
        )
    run = replay(*arguments, batch.start, layers)
    if run is None:
        return ScoringPass(run_whole(*arguments, layers), "full", "its cache cannot be run again from t*")
    return ScoringPass(run, "truncated", "")


def score(
    model: LocalModel, trace: Trace, options: ScoringOptions | None = None, *, release: bool = True
) -> Uncertainty:
    """Compute HybridGrad and what comes with it for one response.

    What is scored is the answer; what was thought before it is given, as the prompt is.

    Args:
        model: The model that the trace came from.
        trace: A response that was generated or read.
        options: How to score it.
        release: Release the cached activations of the trace. Scoring it again reads the response again.

    Raises:
        OptionError: t* lies before the prompt, or the trace is another model's.
        ScoringError: The response ended in its reasoning, so there is no answer; or the result is not a
            number.
    """
    return score_batch(model, [trace], options, release=release)[0]


def score_batch(
    model: LocalModel,
    traces: Sequence[Trace],
    options: ScoringOptions | None = None,
    *,
    release: bool = True,
    positions: int = 0,
) -> list[Uncertainty]:
    """Score several responses; those that were generated or read together share one backward pass.

    Arguments and errors are those of :func:`score`. With ``positions``, SemGrad is given at so many of each
    prompt's last positions as well (``Uncertainty.semgrad_at``), by the same pass, begun at the earliest.
    """
    options = options or ScoringOptions()
    for trace in traces:
        check_scorable(model, trace, options)
    results: dict[int, Uncertainty] = {}
    with model.alone():
        for indices, group in _groups(model, traces):
            batch = lay_out(group, options, positions)
            results |= dict(zip(indices, score_laid_out(model, batch, options), strict=True))
            if release:
                for index in indices:
                    traces[index].release()
    return [results[index] for index in range(len(traces))]


def _groups(model: LocalModel, traces: Sequence[Trace]) -> list[tuple[list[int], list[Trace]]]:
    """Traces that share cached activations; those without any are read again, together where they fit."""
    kept = list(traces)
    released = [index for index, trace in enumerate(traces) if trace.states is None]
    prompts = [
        EncodedPrompt(one.prompt_ids, one.semantic_token, one.opens_reasoning)
        for one in (traces[index] for index in released)
    ]
    read = model.read_encoded(prompts, [traces[index].response_ids for index in released])
    for index, trace in zip(released, read, strict=True):
        kept[index] = trace
    together: dict[int, list[int]] = {}
    for index, trace in enumerate(kept):
        together.setdefault(id(trace.states), []).append(index)
    return [(indices, [kept[index] for index in indices]) for indices in together.values()]


def score_laid_out(model: LocalModel, batch: Batch, options: ScoringOptions) -> list[Uncertainty]:
    """Score the parts of a batch in one backward pass.

    Raises:
        ScoringError: A result is not a number.
    """
    began = time.perf_counter()
    layers = options.layer_indices(len(model.anatomy.layers))
    taken = differentiable(model, batch, layers, options)
    by_head_output = None if batch.states.plain_head else _by_head_output(taken, batch)
    head = head_gradients(model.anatomy.head, batch.predictions, options.norm, by_head_output)
    by_final = torch.zeros_like(taken.run.final, dtype=head.by_input.dtype)
    by_final[batch.row_of, batch.step_of] = head.by_input
    if options.include_tied_embedding and (shared := embedding_gradients(model, batch, by_final)):
        head = head_gradients(model.anatomy.head, batch.predictions, options.norm, by_head_output, shared)
    wanted = [(t, *others) for t, others in zip(batch.columns, batch.others, strict=True)]
    rows = [row for row, columns in zip(batch.rows, wanted, strict=True) for _ in columns]
    sizes = iter(semgrad(taken.run, by_final, layers, rows, [*chain(*wanted)], options.norm))
    by_part = [[next(sizes) for _ in columns] for columns in wanted]
    seconds = time.perf_counter() - began
    exgrad: list[float | None] = [*head.exgrad] or [None] * len(batch.parts)
    return [
        _assembled(model, part, options, taken, seconds, by_part[i], head.paragrad[i], exgrad[i])
        for i, part in enumerate(batch.parts)
    ]


def _by_head_output(taken: ScoringPass, batch: Batch) -> Tensor:
    """The gradient p − onehot by the head's output, through soft-capping or scaling, if the model has it."""
    logits, output = taken.run.logits, taken.run.head_output
    if logits is None or output is None:
        raise ScoringError("The head's output was not seen; nothing can be scored.")
    gradient = torch.zeros_like(logits, dtype=batch.predictions.log_normalizers.dtype)
    gradient[batch.row_of, batch.step_of] = unweighted_by_logits(
        logits.detach()[batch.row_of, batch.step_of], batch.predictions
    )
    (led_back,) = torch.autograd.grad(logits, output, gradient.to(logits.dtype))
    return at_least_float32(led_back[:, -logits.shape[1] :][batch.row_of, batch.step_of])


def _assembled(
    model: LocalModel,
    part: ScoredSpan,
    options: ScoringOptions,
    taken: ScoringPass,
    seconds: float,
    semgrads: Sequence[float],
    paragrad: float,
    exgrad: float | None,
) -> Uncertainty:
    semgrad, *others = semgrads
    trace, tokens = part.trace, slice(*part.span)
    entropies, log_probabilities = trace.entropies[tokens], trace.log_probabilities[tokens]
    mean_entropy = sum(entropies) / len(entropies)
    log_likelihood = sum(log_probabilities)
    position = options.semantic_token or trace.semantic_token
    uncertainty = Uncertainty(
        hybridgrad=combine(semgrad, paragrad, mean_entropy),
        semgrad=semgrad,
        paragrad=paragrad,
        exgrad=exgrad,
        mean_entropy=mean_entropy,
        max_entropy=max(entropies),
        sum_entropy=sum(entropies),
        log_likelihood=log_likelihood,
        perplexity=perplexity(log_likelihood, len(log_probabilities)),
        min_token_probability=exp(min(log_probabilities)),
        tokens=tuple(
            TokenScore(*values)
            for values in zip(
                trace.token_texts[tokens],
                trace.response_ids[tokens],
                log_probabilities,
                entropies,
                token_weights(entropies, options),
                strict=True,
            )
        ),
        semantic_token=SemanticToken(
            position, decode(model.tokenizer, [trace.prompt_ids[position]]), options.semantic_token_source
        ),
        options=options,
        computation=taken.computation,
        computation_reason=taken.reason,
        score_s=seconds,
        semgrad_at=tuple(others),
    )
    for name, value in (*uncertainty.scores().items(), *(("semgrad", value) for value in others)):
        if not isfinite(value):
            raise ScoringError(f"{name} of this response is {value}; it is not scored.")
    return uncertainty


def check_scorable(model: LocalModel, trace: Trace, options: ScoringOptions) -> None:
    """See that a trace is this model's and its prompt reaches back to t*.

    Raises:
        OptionError: It is not, or does not.
        ScoringError: There is no answer.
    """
    if trace.model != model.name:
        raise OptionError(f"This trace is of {trace.model} and cannot be scored with {model.name}.")
    position = options.semantic_token or trace.semantic_token
    if -position > len(trace.prompt_ids):
        raise OptionError(
            f"semantic_token is {position}, and the prompt has only {len(trace.prompt_ids)} tokens."
        )
    if not trace.has_answer:
        raise ScoringError(no_answer(trace))


def no_answer(trace: Trace) -> str:
    """What to say of a response that is nothing but reasoning."""
    opened = " that the prompt opened" if trace.opens_reasoning else ""
    return (
        f"The response ended in the reasoning{opened}, after {len(trace.response_ids):,} tokens, so there is "
        "no answer to score. Give the model more tokens to reason (max_reasoning_tokens), or keep it from "
        "reasoning (chat_template_kwargs)."
    )


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
