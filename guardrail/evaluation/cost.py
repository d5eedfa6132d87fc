"""What the guard costs on this machine: time beside generation and the full backward, and peak memory."""

import platform
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

import psutil
import torch
import transformers
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from guardrail.errors import OptionError
from guardrail.models.generation import run_generate
from guardrail.models.local import LocalModel
from guardrail.models.prompt import EncodedPrompt, encode_prompt
from guardrail.models.sampling import Sampling
from guardrail.scoring.options import Computation, ScoringOptions
from guardrail.scoring.score import score
from guardrail.utils.threads import ProgressCallback, report

__all__ = [
    "CostReport",
    "Extra",
    "PeakMemory",
    "PromptCost",
    "Runtime",
    "measure_cost",
    "peak_memory",
    "prompt_of_length",
    "runtime_of",
]

# What HybridGrad needs: ExGrad is a number for comparison.
GUARD = ScoringOptions(exgrad=False)
FULL = ScoringOptions(exgrad=False, computation="full")

_TEXT = "The quick brown fox jumps over the lazy dog, and the dog wonders what it was that went by. "


class PeakMemory(Protocol):
    """A context manager around a computation.

    Attributes:
        peak_bytes: Peak memory inside the block, beyond what was held before it.
        largest_bytes: Size of the largest single tensor allocated inside; None if it cannot be observed.
        largest_shape: Its shape; None if it cannot be observed.
    """

    peak_bytes: int
    largest_bytes: int | None
    largest_shape: tuple[int, ...] | None

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def peak_memory(device: torch.device) -> PeakMemory:
    """The meter for a device: the allocator's own on CUDA, a count of tensors elsewhere.

    The count is exact and reproducible, but covers tensors only: the workspace a kernel allocates while it
    runs (for a matrix product, say) and what the allocator rounds up are not included.
    """
    return _AllocatorPeak() if device.type == "cuda" else _TensorPeak()


class _AllocatorPeak:
    """By the statistics of CUDA's allocator, summed over the devices that can be seen."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self.largest_bytes: int | None = None
        self.largest_shape: tuple[int, ...] | None = None
        self._before: list[int] = []

    def __enter__(self) -> Self:
        for device in range(torch.cuda.device_count()):
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            self._before.append(torch.cuda.memory_allocated(device))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for device, before in enumerate(self._before):
            torch.cuda.synchronize(device)
            self.peak_bytes += torch.cuda.max_memory_allocated(device) - before


class _TensorPeak(TorchDispatchMode):
    """By watching every operation: the storages it allocates, and when each is freed."""

    def __init__(self) -> None:
        # torch does not annotate it.
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak_bytes = 0
        self.largest_bytes: int | None = 0
        self.largest_shape: tuple[int, ...] | None = None
        self._held = 0
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        # An operation's inputs existed before or are already counted; a literal is passed as an input.
        given: set[int] = set()
        if func is not torch.ops.aten.lift_fresh.default:
            given = {id(tensor.untyped_storage()) for tensor in _tensors((args, kwargs))}
        output = func(*args, **kwargs)
        for tensor in _tensors(output):
            storage = tensor.untyped_storage()
            if id(storage) not in self._alive and id(storage) not in given:
                self._count(storage, tuple(tensor.shape))
        return output

    def _count(self, storage: torch.UntypedStorage, shape: tuple[int, ...]) -> None:
        key, size = id(storage), storage.nbytes()

        def gone(_reference: Any) -> None:
            self._held -= size
            del self._alive[key]

        self._alive[key] = weakref.ref(storage, gone)
        self._held += size
        self.peak_bytes = max(self.peak_bytes, self._held)
        if size > (self.largest_bytes or 0):
            self.largest_bytes, self.largest_shape = size, shape


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


class Runtime(NamedTuple):
    """The environment of a measurement.

    Attributes:
        device: Torch's name for the device that holds the model.
        device_name: The device's product name.
        dtype: Data type of the computation.
        threads: Threads that torch uses for one operation on the CPU.
        cores: Processor cores this process may use.
        torch: Version of torch.
        transformers: Version of transformers.
        python: Version of Python.
    """

    device: str
    device_name: str
    dtype: str
    threads: int
    cores: int
    torch: str
    transformers: str
    python: str


def runtime_of(model: LocalModel) -> Runtime:
    """Describe the environment a model runs in."""
    device = model.model.device
    cuda = device.type == "cuda"
    return Runtime(
        device=str(device),
        device_name=torch.cuda.get_device_name(device) if cuda else platform.machine(),
        dtype=str(model.model.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        cores=psutil.cpu_count() or 1,
        torch=torch.__version__,
        transformers=transformers.__version__,
        python=platform.python_version(),
    )


@dataclass(frozen=True, slots=True)
class Extra:
    """What scoring by one backward pass costs beside generation alone.

    Attributes:
        computation: ``truncated``, or ``full`` where the truncated backward does not hold for the model.
        extra_s: Median over rounds of the added seconds: the hooks during generation, and scoring.
        ratio: ``extra_s`` divided by the median of generation alone.
        peak_bytes: Peak memory of scoring, beyond what was held before it.
        largest_bytes: Largest single tensor that scoring allocated; None where it cannot be observed (CUDA).
        largest_shape: Its shape; None likewise.
    """

    computation: Computation
    extra_s: float
    ratio: float
    peak_bytes: int
    largest_bytes: int | None
    largest_shape: tuple[int, ...] | None


class Round(NamedTuple):
    """Seconds of one round: generation alone, generation with the guard's hooks, scoring by each backward."""

    generation_s: float
    guarded_generation_s: float
    score_s: float
    full_score_s: float


@dataclass(frozen=True, slots=True)
class PromptCost:
    """Costs at one length of the prompt.

    Attributes:
        prompt_tokens: The length.
        generation_s: Median of generation alone.
        guard: What the guard adds.
        full: What the full backward would add.
        rounds: Every round, to see their spread.
    """

    prompt_tokens: int
    generation_s: float
    guard: Extra
    full: Extra
    rounds: tuple[Round, ...]


@dataclass(frozen=True, slots=True)
class CostReport:
    """Costs of the guard for answers of one length behind prompts of several.

    Attributes:
        model: The model.
        runtime: The environment.
        answer_tokens: Length of every answer.
        prompts: One entry per prompt length.
    """

    model: str
    runtime: Runtime
    answer_tokens: int
    prompts: tuple[PromptCost, ...]


def measure_cost(
    model: LocalModel,
    prompt_tokens: Sequence[int] = (64, 512, 2048),
    answer_tokens: int = 18,
    rounds: int = 5,
    progress: ProgressCallback | None = None,
) -> CostReport:
    """Measure what the guard adds to a generation, in time and memory.

    Every round generates alone (transformers' ``generate``, no hooks), generates with the guard's hooks, and
    scores that answer by the truncated and by the full backward, for HybridGrad and its parts without ExGrad.
    The added time is the difference between the two generations of a round plus the scoring. The order
    alternates, so that a machine that slows down or warms up favours neither. A warm-up round comes
    first, and memory is measured in a separate run.

    Args:
        model: The model.
        prompt_tokens: Lengths of prompts.
        answer_tokens: Length of every answer, forced whatever the model would have said.
        rounds: Number of rounds that the medians are taken over.
        progress: Told of each round.

    Raises:
        OptionError: A length is too small, or beyond the model's context.
    """
    if rounds < 1:
        raise OptionError(f"rounds is {rounds}; a median needs at least 1.")
    if not prompt_tokens:
        raise OptionError("No length of a prompt was given.")
    sampling = Sampling(max_tokens=answer_tokens, ignore_end=True)
    prompts = [prompt_of_length(model, tokens, room=answer_tokens) for tokens in prompt_tokens]
    return CostReport(
        model=model.name,
        runtime=runtime_of(model),
        answer_tokens=answer_tokens,
        prompts=tuple(_cost(model, prompt, sampling, rounds, progress) for prompt in prompts),
    )


def prompt_of_length(model: LocalModel, tokens: int, room: int = 0) -> EncodedPrompt:
    """A question of exactly this many tokens, in the model's chat template with its generation prompt.

    Args:
        model: The model.
        tokens: Length of the prompt.
        room: Number of tokens that must still fit after it.

    Raises:
        OptionError: It is shorter than the chat template alone, or beyond the context.
    """
    context = model.anatomy.context_length
    if context is not None and tokens + room > context:
        raise OptionError(
            f"A prompt of {tokens:,} tokens and an answer of {room:,} are more than the {context:,} that "
            f"{model.name} reads."
        )
    text = _TEXT
    encoded = encode_prompt(model.tokenizer, text)
    # What the template adds is common to any two questions; ids of the text in between can be removed.
    other = encode_prompt(model.tokenizer, "Why?")
    head = _in_common(encoded.ids, other.ids)
    tail = _in_common(encoded.ids[head:][::-1], other.ids[head:][::-1])
    if tokens <= head + tail:
        raise OptionError(
            f"A prompt of {tokens} tokens is too short: the chat template of {model.name} alone takes "
            f"{head + tail}."
        )
    while (length := len(encoded.ids)) < tokens:
        text += text
        encoded = encode_prompt(model.tokenizer, text)
        if len(encoded.ids) <= length:
            raise OptionError(f"The tokenizer of {model.name} gives no more tokens for a longer text.")
    surplus = len(encoded.ids) - tokens
    return EncodedPrompt(encoded.ids[:head] + encoded.ids[head + surplus :], encoded.semantic_token)


def _in_common(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def _cost(
    model: LocalModel,
    prompt: EncodedPrompt,
    sampling: Sampling,
    rounds: int,
    progress: ProgressCallback | None,
) -> PromptCost:
    stage = f"measuring prompts of {len(prompt.ids):,} tokens"
    report(progress, stage, 0, rounds + 2)
    _round(model, prompt, sampling, turned=False)
    report(progress, stage, 1, rounds + 2)
    (trace,) = model.generate_encoded([prompt], sampling)
    extras: dict[str, dict[str, Any]] = {}
    for name, options in (("guard", GUARD), ("full", FULL)):
        with peak_memory(model.model.device) as memory:
            computation = score(model, trace, options, release=False).computation
        extras[name] = {
            "computation": computation,
            "peak_bytes": memory.peak_bytes,
            "largest_bytes": memory.largest_bytes,
            "largest_shape": memory.largest_shape,
        }
    del trace
    measured: list[Round] = []
    for number in range(rounds):
        report(progress, stage, 2 + number, rounds + 2)
        measured.append(_round(model, prompt, sampling, turned=number % 2 == 1))
    report(progress, stage, rounds + 2, rounds + 2)
    generation = median(r.generation_s for r in measured)
    guard = median(r.guarded_generation_s - r.generation_s + r.score_s for r in measured)
    full = median(r.guarded_generation_s - r.generation_s + r.full_score_s for r in measured)
    return PromptCost(
        prompt_tokens=len(prompt.ids),
        generation_s=generation,
        guard=Extra(extra_s=guard, ratio=guard / generation, **extras["guard"]),
        full=Extra(extra_s=full, ratio=full / generation, **extras["full"]),
        rounds=tuple(measured),
    )


def _round(model: LocalModel, prompt: EncodedPrompt, sampling: Sampling, *, turned: bool) -> Round:
    alone = 0.0 if turned else _generation_alone(model, prompt, sampling)
    began = time.perf_counter()
    (trace,) = model.generate_encoded([prompt], sampling)
    guarded = time.perf_counter() - began
    seconds = {}
    for options in (FULL, GUARD) if turned else (GUARD, FULL):
        began = time.perf_counter()
        score(model, trace, options, release=False)
        seconds[options] = time.perf_counter() - began
    if turned:
        del trace
        alone = _generation_alone(model, prompt, sampling)
    return Round(alone, guarded, seconds[GUARD], seconds[FULL])


def _generation_alone(model: LocalModel, prompt: EncodedPrompt, sampling: Sampling) -> float:
    began = time.perf_counter()
    inputs = model.tokenizer.pad({"input_ids": [prompt.ids]}, return_tensors="pt").to(model.model.device)
    output = run_generate(model.runnable, inputs["input_ids"], inputs["attention_mask"], sampling)
    # Fetching the tokens synchronises with an asynchronous device.
    output.sequences.tolist()
    return time.perf_counter() - began
