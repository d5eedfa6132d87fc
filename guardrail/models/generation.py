"""Runs of the model that leave something to score: generating a batch of responses, or reading given ones."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from guardrail.errors import GenerationError
from guardrail.models.decoding import NO_CONTROLS, GenerationControls, GoesOn, StopStrings, drawn
from guardrail.models.partial_response import GrowthWatch, PartialResponse
from guardrail.models.reasoning import DEFAULT_REASONING_TOKENS
from guardrail.models.replay.architecture import headless, positions_of, predicting
from guardrail.models.replay.caches import CachedActivations, retaining_cache
from guardrail.models.replay.replay import LOGITS_BUDGET_BYTES, Recorder
from guardrail.models.response import AfterReasoning, AnswerLimits, ResponseReader, TextStream
from guardrail.models.runnable_model import RunnableModel
from guardrail.models.sampling import Sampling
from guardrail.models.trace import HiddenSummary, TokenStatistics, token_statistics

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from guardrail.models.prompt import EncodedPrompt

# How many of a prompt's last columns are kept at least: those among which t* is looked for.
SHORTEST_TAIL = 10


class Run(NamedTuple):
    """What a run of a batch leaves.

    Attributes:
        responses: Token ids of each response.
        states: The states kept for scoring.
        statistics: Per-token statistics, padded to the longest response.
        hidden: For each row, summaries by decoder layer.
        seconds: Wall time.
        stream: What told of the text while it grew, where somebody listens.
    """

    responses: list[list[int]]
    states: CachedActivations
    statistics: TokenStatistics
    hidden: list[dict[int, HiddenSummary]]
    seconds: float
    stream: TextStream | None = None


def generate(
    runnable: RunnableModel,
    prompts: Sequence["EncodedPrompt"],
    sampling: Sampling,
    depths: Sequence[int] = (),
    controls: GenerationControls = NO_CONTROLS,
    max_tokens: int | None = None,
) -> Run:
    """Generate with transformers' own ``generate``, keeping what scoring needs as it goes by.

    Args:
        runnable: The model.
        prompts: The prompts; their t* says how much of the prompt's end is kept.
        sampling: How to decode; its ``max_tokens`` are those of the whole response.
        depths: Decoder layers to summarise.
        controls: Who listens, who may stop it, what may be said.
        max_tokens: Most tokens of an answer, of a model that may reason before it; None for any other.

    Raises:
        GenerationError: The model gave logits that are not numbers.
        CancelledError: Nobody waits for the responses any more.
    """
    began = time.perf_counter()
    model = runnable.model
    ids, mask = padded(model, [prompt.ids for prompt in prompts], left=True)
    width, tail = ids.shape[1], _tail(prompts)
    layer = runnable.anatomy.upper_half[0]
    budget = LOGITS_BUDGET_BYTES if runnable.plain_head else None
    readers = [
        ResponseReader(runnable.tokenizer, sampling.stop, runnable.silent_ends, opened=prompt.opens_reasoning)
        for prompt in prompts
    ]
    with Recorder(model, runnable.anatomy, layer, depths, tail, logits_budget=budget) as recorder:
        stop = _stopping(readers, width, sampling, max_tokens)
        stops = bool(sampling.stop) or max_tokens is not None
        stream = controls.on_text and TextStream(
            runnable.tokenizer,
            sampling.stop,
            width,
            controls.on_text,
            runnable.silent_ends,
            opened=readers[0].opened,
        )
        goes_on = controls.goes_on and GoesOn(controls.goes_on)
        criteria: list[StoppingCriteria | None] = [stop if stops else None, stream, goes_on]
        if controls.on_growth is not None:
            # Behind the others: it is told of nothing that nobody waits for.
            partial = _growing(runnable, recorder, readers[0], prompts[0], mask, tail)
            criteria.append(GrowthWatch(partial, width, controls.on_growth))
        output = run_generate(
            runnable,
            ids,
            mask,
            sampling,
            past_key_values=retaining_cache(model, tail),
            stopping_criteria=[one for one in criteria if one] or None,
            held=_held(runnable, controls, readers[0], width),
        )
    new = output.sequences[:, width:]
    responses = [_until_end(runnable, row, stop.ends[at]) for at, row in enumerate(new.tolist())]
    longest = max(map(len, responses))
    states = _left(runnable, recorder, output.sequences, mask, output.past_key_values, longest, tail)
    run = _finished(runnable, recorder, states, readers, responses, new[:, :longest], began)
    return run._replace(stream=stream)


def _left(
    runnable: RunnableModel,
    recorder: Recorder,
    ids: Tensor,
    mask: Tensor,
    cache: Any,
    longest: int,
    tail: int,
) -> CachedActivations:
    """What a generation (ids: B × columns; mask: of its prompts) has left at so many response tokens."""
    width = mask.shape[1]
    return CachedActivations(
        ids=ids[:, : width + longest - 1],
        mask=torch.cat([mask, mask.new_ones(len(mask), longest - 1)], dim=1),
        prompt_width=width,
        cache=cache,
        layer=recorder.layer,
        entering=torch.cat(recorder.entering[:longest], dim=1),
        entering_from=max(0, width - tail),
        outputs=recorder.outputs.joined(recorder.entering, longest),
        final=torch.cat(recorder.final[:longest], dim=1),
        logits=torch.cat(recorder.logits[:longest], dim=1) if recorder.logits else None,
        log_normalizers=None,
        plain_head=runnable.plain_head,
        returned=runnable.returned,
    )


def _growing(
    runnable: RunnableModel,
    recorder: Recorder,
    reader: ResponseReader,
    prompt: "EncodedPrompt",
    mask: Tensor,
    tail: int,
) -> Callable[[Tensor], PartialResponse]:
    """Makes the partial response of a single prompt from the ids of both (1 × columns)."""

    def partial(ids: Tensor) -> PartialResponse:
        new = ids[:, mask.shape[1] :]
        response: list[int] = new[0].tolist()

        def run() -> Run:
            began = time.perf_counter()
            if recorder.cache is None:
                raise GenerationError(
                    f"A {runnable.anatomy.config.model_type} keeps its state within itself: no response can "
                    "be scored before it is finished. Choose another model, or streaming: buffer."
                )
            states = _left(runnable, recorder, ids, mask, recorder.cache, len(response), tail)
            return _finished(runnable, recorder, states, [reader], [response], new, began)

        return PartialResponse(prompt, reader, response, run, recorder.suspended)

    return partial


def _held(
    runnable: RunnableModel, controls: GenerationControls, reader: ResponseReader, width: int
) -> LogitsProcessor | None:
    held = controls.processor(runnable) if controls.processor else None
    if held is not None and reader.opened and getattr(held, "after_reasoning", False):
        return AfterReasoning(held, reader, width)
    return held


def _stopping(
    readers: Sequence[ResponseReader], width: int, sampling: Sampling, max_tokens: int | None
) -> StopStrings | AnswerLimits:
    if max_tokens is None:
        return StopStrings(readers[0].tokenizer, sampling.stop, width, len(readers))
    reasoning = sampling.max_reasoning_tokens or DEFAULT_REASONING_TOKENS
    return AnswerLimits(readers, width, max_tokens, reasoning)


def run_generate(
    runnable: RunnableModel,
    ids: Tensor,
    mask: Tensor,
    sampling: Sampling,
    held: LogitsProcessor | None = None,
    **kwargs: Any,
) -> Any:
    """Call ``generate`` with these options and none of the checkpoint's own.

    ``held`` rules out tokens before one is chosen.
    """
    config = GenerationConfig(
        max_new_tokens=sampling.max_tokens,
        min_new_tokens=sampling.max_tokens if sampling.ignore_end else 0,
        # Tokens are drawn all the same where that is wanted: see guardrail.models.decoding.
        do_sample=False,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        num_beams=1,
        eos_token_id=list(runnable.end_ids) or None,
        pad_token_id=_pad_id(runnable),
        return_dict_in_generate=True,
        use_cache=True,
    )
    with _without_defaults(runnable.model):
        try:
            # The type of an attribute that torch's modules may have is the best that is known of it.
            return runnable.model.generate(  # type: ignore[operator]
                inputs=ids,
                attention_mask=mask,
                generation_config=config,
                logits_processor=[*([held] if held else []), *drawn(sampling)],
                **kwargs,
            )
        except RuntimeError as error:
            # What torch.multinomial says of a distribution with NaN.
            if "probability tensor contains" in str(error):
                raise GenerationError(_not_numbers(runnable, "while drawing a token")) from error
            raise


@contextmanager
def _without_defaults(model: "PreTrainedModel") -> Iterator[None]:
    """Set aside the checkpoint's generation options: ``generate`` fills every gap in those it is given."""
    kept = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = kept


def read(
    runnable: RunnableModel,
    prompts: Sequence["EncodedPrompt"],
    responses: Sequence[Sequence[int]],
    depths: Sequence[int] = (),
) -> Run:
    """Read given responses by teacher forcing; what is left is as if they had been generated here.

    Raises:
        GenerationError: The model gave logits that are not numbers.
    """
    began = time.perf_counter()
    model, anatomy = runnable.model, runnable.anatomy
    prompt_ids, prompt_mask = padded(model, [prompt.ids for prompt in prompts], left=True)
    response_ids, _ = padded(model, responses, left=False)
    width, longest, tail = prompt_ids.shape[1], response_ids.shape[1], _tail(prompts)
    ids = torch.cat([prompt_ids, response_ids[:, :-1]], dim=1)
    # As after a generation, what follows a response counts as text: nothing of the row looks at it, and a
    # window that held padding only would give NaN.
    mask = torch.cat([prompt_mask, prompt_mask.new_ones(len(prompts), longest - 1)], dim=1)
    layer = anatomy.upper_half[0]
    columns = tail + longest - 1
    recorder = Recorder(model, anatomy, layer, depths, columns, predicted=longest, logits_budget=None)
    with ExitStack() as stack:
        stack.enter_context(recorder)
        stack.enter_context(torch.no_grad())
        stack.enter_context(predicting(anatomy.head, longest))
        if runnable.plain_head:
            stack.enter_context(headless(anatomy.head))
        output = model(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=retaining_cache(model, columns),
            use_cache=True,
            **positions_of(model, mask, 0),
        )
    final = recorder.final[0]
    logits: Tensor | None = output.logits
    if runnable.plain_head:
        size = final.shape[0] * longest * anatomy.config.vocab_size * final.element_size()
        logits = _head(anatomy.head, final) if size <= LOGITS_BUDGET_BYTES else None
    states = CachedActivations(
        ids=ids,
        mask=mask,
        prompt_width=width,
        cache=getattr(output, "past_key_values", None),
        layer=layer,
        entering=recorder.entering[0],
        entering_from=max(0, width - tail),
        outputs=recorder.outputs.joined(recorder.entering, 1),
        final=final,
        logits=logits,
        log_normalizers=None,
        plain_head=runnable.plain_head,
        returned=runnable.returned,
    )
    readers = [ResponseReader(runnable.tokenizer, opened=prompt.opens_reasoning) for prompt in prompts]
    return _finished(runnable, recorder, states, readers, [list(r) for r in responses], response_ids, began)


def _finished(
    runnable: RunnableModel,
    recorder: Recorder,
    states: CachedActivations,
    readers: Sequence[ResponseReader],
    responses: list[list[int]],
    targets: Tensor,
    began: float,
) -> Run:
    pieces = iter([states.logits]) if states.logits is not None else _recomputed(runnable, states.final)
    statistics = token_statistics(pieces, targets)
    states.log_normalizers = statistics.log_normalizers
    # Copied in one go: each row's own lists would make the device wait for every number.
    statistics = TokenStatistics(*(column.cpu() for column in statistics))
    for row, response in enumerate(responses):
        for column in statistics[:2]:
            finite = torch.isfinite(column[row, : len(response)])
            if not finite.all():
                at = int((~finite).nonzero()[0]) + 1
                raise GenerationError(_not_numbers(runnable, f"at response token {at}"))
    longest = max(map(len, responses))
    hidden = [
        {
            depth: _summary(torch.cat(pieces[:longest], dim=1)[row], *_answered(reader, response))
            for depth, pieces in recorder.inputs.items()
        }
        for row, (reader, response) in enumerate(zip(readers, responses, strict=True))
    ]
    return Run(responses, states, statistics, hidden, time.perf_counter() - began)


def _answered(reader: ResponseReader, response: Sequence[int]) -> tuple[int, int]:
    """The tokens of the answer; of a response without one, all."""
    start = reader.divide(response).start
    return (start if start < len(response) else 0), len(response)


def _summary(states: Tensor, start: int, end: int) -> HiddenSummary:
    states = states[start:end].detach().float()
    return HiddenSummary(states.mean(0).cpu(), states[-1].cpu())


def _recomputed(runnable: RunnableModel, final: Tensor) -> Iterator[Tensor]:
    per_step = final.shape[0] * runnable.anatomy.config.vocab_size * final.element_size()
    for part in final.split(max(1, LOGITS_BUDGET_BYTES // per_step), dim=1):
        yield _head(runnable.anatomy.head, part)


@torch.no_grad()
def _head(head: nn.Module, final: Tensor) -> Tensor:
    logits: Tensor = head(final)
    return logits


def _tail(prompts: Sequence["EncodedPrompt"]) -> int:
    return max(SHORTEST_TAIL, *(-prompt.semantic_token for prompt in prompts))


def padded(
    model: "PreTrainedModel", sequences: Sequence[Sequence[int]], *, left: bool
) -> tuple[Tensor, Tensor]:
    """Token ids of one width, and a mask that is 1 where a column holds a token (both B × columns)."""
    width = max(map(len, sequences))
    # Any id does where nothing looks; 0 is one of every vocabulary.
    ids = torch.zeros(len(sequences), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        columns = slice(width - len(sequence), width) if left else slice(0, len(sequence))
        ids[row, columns] = torch.tensor(sequence, dtype=torch.long)
        mask[row, columns] = 1
    return ids.to(model.device), mask.to(model.device)


def _until_end(runnable: RunnableModel, row: list[int], stopped: int | None) -> list[int]:
    """The response without what ``generate`` padded it with: up to its end of turn or its stop string."""
    end = next((at + 1 for at, token in enumerate(row) if token in runnable.end_ids), len(row))
    return row[: end if stopped is None else min(end, stopped)]


def _pad_id(runnable: RunnableModel) -> int:
    pad = runnable.tokenizer.pad_token_id
    if pad is not None:
        return int(pad)
    return runnable.end_ids[0] if runnable.end_ids else 0


def _not_numbers(runnable: RunnableModel, where: str) -> str:
    dtype = str(runnable.model.dtype).removeprefix("torch.")
    return (
        f"The model gave logits that are not numbers {where} (dtype {dtype}), so nothing can be said of this "
        "response. Try dtype bfloat16 or float32; if it stays, the weights are broken."
    )
