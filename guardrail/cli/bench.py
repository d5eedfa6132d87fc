"""``guardrail bench``: measure what the guard costs on this machine."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from guardrail.cli.common import (
    AsJson,
    Device,
    Dtype,
    Model,
    Quantization,
    open_model,
    print_json,
    progress_bar,
    results,
)
from guardrail.models.files.reference import DEFAULT_MODEL

if TYPE_CHECKING:
    from guardrail.evaluation.cost import CostReport, Extra


def _lengths(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a list of numbers such as 64,512,2048") from error


def bench(
    model: Model = DEFAULT_MODEL,
    device: Device = "auto",
    dtype: Dtype = "auto",
    quantization: Quantization = None,
    prompt_tokens: Annotated[
        str, typer.Option(help="Prompt lengths to measure.", metavar="N,N,…")
    ] = "64,512,2048",
    answer_tokens: Annotated[int, typer.Option(min=1, help="Length of every answer.")] = 18,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; the medians are reported.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Measure what the uncertainty costs on this machine, compared with generating the answer."""
    lengths = _lengths(prompt_tokens)
    with progress_bar() as progress:
        local = open_model(model, device, dtype, quantization, progress)
        from guardrail.evaluation.cost import measure_cost

        report = measure_cost(local, lengths, answer_tokens, rounds, progress)
    if as_json:
        print_json(_as_plain(report))
    else:
        _print_table(report)


def _as_plain(report: "CostReport") -> dict[str, object]:
    plain = asdict(report)
    plain["runtime"] = report.runtime._asdict()
    plain["rounds"] = len(report.prompts[0].rounds)
    plain["prompts"] = [
        {**asdict(prompt), "rounds": [r._asdict() for r in prompt.rounds]} for prompt in report.prompts
    ]
    return plain


def _print_table(report: "CostReport") -> None:
    runtime = report.runtime
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for header in ("Prompt", "Generation", "Guard adds", "Memory", "Full backward", "Memory"):
        table.add_column(header, justify="right", header_style="bold")
    for prompt in report.prompts:
        table.add_row(
            f"{prompt.prompt_tokens:,} tokens",
            _seconds(prompt.generation_s),
            _added(prompt.guard),
            _size(prompt.guard.peak_bytes),
            _added(prompt.full),
            _size(prompt.full.peak_bytes),
        )
    console = results()
    console.print(
        f"{report.model} on {runtime.device} ({runtime.device_name}, {runtime.threads} threads), "
        f"{runtime.dtype}, torch {runtime.torch}",
        markup=False,
        soft_wrap=True,
    )
    console.print()
    console.print(table)
    console.print()
    console.print(
        f"Answers of {report.answer_tokens} tokens; medians of {len(report.prompts[0].rounds)} rounds. "
        "Generation is transformers' own. The guard adds its hooks to that, and HybridGrad: by the "
        "truncated backward, or by the full one. Memory is the most that scoring held beyond what was held "
        "before.",
        style="dim",
    )
    if any(prompt.guard.computation == "full" for prompt in report.prompts):
        console.print(
            "The truncated backward does not hold for this model: the guard took the full one.", style="dim"
        )


def _added(extra: "Extra") -> str:
    return f"{_seconds(extra.extra_s)} ({extra.ratio:+.0%})"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if abs(seconds) >= 1 else f"{seconds * 1000:,.0f} ms"


def _size(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
