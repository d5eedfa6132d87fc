"""What commands share: options, a model that is opened, results on stdout, progress and errors on stderr."""

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TaskProgressColumn, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed
from rich.progress import TimeRemainingColumn as Remaining
from rich.segment import Segment

from guardrail.errors import GuardrailError, OptionError
from guardrail.models.chat_template import parse_chat_template_kwargs
from guardrail.models.replay.transformers_internals import import_quickly
from guardrail.utils.json_lines import plain_json
from guardrail.utils.text import escaped, visible, visible_line
from guardrail.utils.threads import ProgressCallback

if TYPE_CHECKING:
    from guardrail.labelling.collection import Collected
    from guardrail.models.local import LocalModel
    from guardrail.scoring.batches import Failure

__all__ = [
    "AsJson",
    "ChatTemplateKwargs",
    "Device",
    "Dtype",
    "Limit",
    "MaxReasoningTokens",
    "MaxTokens",
    "Model",
    "Quantization",
    "QuestionBatchSize",
    "Reduction",
    "SemanticToken",
    "SystemMessage",
    "asks_otherwise",
    "guarantees_given",
    "numbers_by_name",
    "open_model",
    "print_collected",
    "print_error",
    "print_failures",
    "print_file",
    "print_json",
    "progress_bar",
    "readable",
    "remember_json",
    "results",
    "say",
    "stdout_is_terminal",
    "without_orders",
]


_AS_JSON = "guardrail.json"
# If stderr is not a terminal, progress is one line this often.
_SECONDS_BETWEEN_LINES = 30.0
_SHOWN_FAILURES = 5


class _Console(Console):
    """A console whose text cannot send control sequences to the terminal; only our own styles can."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def results() -> Console:
    """The console for results read by people; plain text if stdout is not a terminal."""
    return _Console(highlight=False)


def say(line: str, *, err: bool = False) -> None:
    """Print one line. Control sequences and line breaks in it are shown, not obeyed.

    Args:
        line: The line.
        err: Whether to print on stderr.
    """
    typer.echo(visible_line(line), err=err)


def print_json(value: Any, *, indent: int | None = None) -> None:
    """Print a value as JSON, on one line or indented."""
    written = json.dumps(plain_json(value), ensure_ascii=False, allow_nan=False, indent=indent)
    # As bytes, because JSON is UTF-8 whatever the terminal's encoding.
    typer.echo(escaped(written).encode())


def print_file(text: str) -> None:
    """Print a result that is itself a file: exact, but on a terminal control characters are shown."""
    typer.echo((visible(text) if stdout_is_terminal() else text).encode(), nl=False)


def without_orders(error: Exception) -> None:
    """Make an error of the command-line parser safe to print: it quotes the user's input."""
    for name, value in vars(error).items():
        if isinstance(value, str):
            setattr(error, name, visible(value))


def remember_json(ctx: typer.Context, asked: bool) -> bool:
    """Note that this run prints JSON, so that its errors are JSON too."""
    ctx.meta[_AS_JSON] = asked
    return asked


def print_error(ctx: typer.Context, error: GuardrailError) -> None:
    """Print an error: a line on stderr, and with --json an object on stdout."""
    message = " ".join(str(error).split())
    say(f"error: {message}", err=True)
    if ctx.meta.get(_AS_JSON):
        print_json({"error": {"type": type(error).__name__, "message": message}})


def print_failures(
    failures: "Sequence[Failure]",
    what: str = "lines do not count",
    rest: str = "--json lists them all",
) -> None:
    """Say on stderr which lines came to nothing, and why.

    Args:
        failures: They.
        what: What became of them, behind their number.
        rest: Where those are that are not shown.
    """
    if not failures:
        return
    say(f"{len(failures):,} {what}:", err=True)
    for failure in failures[:_SHOWN_FAILURES]:
        say(f"  line {failure.line}: {failure.reason}", err=True)
    if len(failures) > _SHOWN_FAILURES:
        say(f"  and {len(failures) - _SHOWN_FAILURES:,} more; {rest}", err=True)


def print_collected(collected: "Collected[Any]", stored: Path, judged_again: str) -> None:
    """Say on stderr what became of a file of questions.

    Args:
        collected: The answers.
        stored: The file that they are kept in.
        judged_again: How those that the judge failed on are judged again.
    """
    counts = collected.counts
    kept = f", {collected.kept:,} of them by an earlier run" if collected.kept else ""
    say(
        f"{counts.answers:,} answers{kept}: {counts.correct:,} correct, {counts.wrong:,} wrong, "
        f"{counts.unlabelled:,} without a label. They are in {stored}",
        err=True,
    )
    if collected.judged_again:
        say(f"{collected.judged_again:,} of them were judged again.", err=True)
    if collected.judge_failures:
        say(
            f"The judge failed on {collected.judge_failures:,}, which do not count; {judged_again}. "
            f"{collected.judge_failure}",
            err=True,
        )
    print_failures(collected.failures)


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[ProgressCallback]:
    """A progress bar on stderr with the time left; occasional lines if stderr is not a terminal.

    Args:
        quiet: Show nothing, because the result itself is being printed on the same terminal.
    """
    console = _Console(stderr=True)
    live = console.is_terminal and not quiet
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
    )
    bar = Progress(
        *columns,
        Elapsed(),
        Remaining(),
        console=console,
        transient=True,
        disable=not live,
        # A result printed meanwhile belongs on stdout, not above the bar.
        redirect_stdout=False,
        redirect_stderr=False,
    )
    task: TaskID | None = None
    current, printed = "", 0.0
    began, from_ = 0.0, 0

    def say(text: str) -> None:
        nonlocal printed
        printed = time.monotonic()
        if not console.is_terminal:
            console.print(text, highlight=False, markup=False, soft_wrap=True)

    def show(stage: str, done: int, total: int | None) -> None:
        nonlocal task, current, began, from_
        if task is None or stage != current:
            say(stage)
            began, from_ = time.monotonic(), done
            if task is not None:
                bar.remove_task(task)
            task, current = bar.add_task(stage, total=total), stage
        elif total and time.monotonic() - printed > _SECONDS_BETWEEN_LINES:
            say(f"{stage}: {done / total:.0%}{_left(time.monotonic() - began, done - from_, total - done)}")
        bar.update(task, completed=done, total=total)

    with bar:
        yield show


def stdout_is_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def _left(seconds: float, done: int, to_do: int) -> str:
    """The estimated time left, in words; empty if it is not known yet."""
    if done <= 0:
        return ""
    return f", about {timedelta(seconds=round(seconds / done * to_do))} left"


_MODEL = "Model"
_SCORE = "Uncertainty"
_ANSWERS = "Answers"


def readable(value: str | list[str] | None) -> str | list[str] | None:
    """Refuse an argument that is not valid text in the terminal's encoding."""
    try:
        "".join(value or ()).encode()
    except UnicodeEncodeError as error:
        raise typer.BadParameter("Not valid text in this terminal's encoding.") from error
    return value


Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="Built-in name, folder, .gguf file or hub id (owner/name, owner/name@revision).",
        rich_help_panel=_MODEL,
    ),
]
Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.", metavar="DEVICE", rich_help_panel=_MODEL)
]
Dtype = Annotated[
    str,
    typer.Option(
        help="auto, float32, bfloat16, float16 or float64.", metavar="DTYPE", rich_help_panel=_MODEL
    ),
]
Quantization = Annotated[
    Literal["8bit", "4bit"] | None,
    typer.Option(help="Quantize the weights while loading (CUDA only).", rich_help_panel=_MODEL),
]
ChatTemplateKwargs = Annotated[
    str | None,
    typer.Option(
        "--chat-template-kwargs",
        help="Arguments of the model's chat template, as a JSON object: '{\"enable_thinking\": false}'.",
        metavar="JSON",
        show_default=False,
        callback=readable,
        rich_help_panel=_MODEL,
    ),
]
MaxReasoningTokens = Annotated[
    int | None,
    typer.Option(
        "--max-reasoning-tokens",
        help="Maximum reasoning tokens before the answer, for models that reason; 2048 by default.",
        show_default=False,
        rich_help_panel="Answer",
    ),
]
SemanticToken = Annotated[
    int | None,
    typer.Option(
        help="Position of the semantics-preserving token, counted from the end of the prompt (-1 is the last "
        "token). By default the known position of the model (guardrail sps --known), or else the rule for "
        "its chat template.",
        show_default=False,
        rich_help_panel=_SCORE,
    ),
]
Reduction = Annotated[
    Literal["mean", "sum"],
    typer.Option(
        help="Loss over the answer's tokens: their sum (the paper's text) or their mean (its code).",
        rich_help_panel=_SCORE,
    ),
]
QuestionBatchSize = Annotated[
    int, typer.Option(min=1, help="How many questions the model reads at once.", rich_help_panel=_MODEL)
]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Take only so many lines.", show_default=False, rich_help_panel=_ANSWERS),
]
SystemMessage = Annotated[
    str | None,
    typer.Option(
        help="A system message before every conversation that has none.",
        callback=readable,
        rich_help_panel=_ANSWERS,
    ),
]
MaxTokens = Annotated[int, typer.Option(help="Most tokens of an answer.", rich_help_panel=_ANSWERS)]
AsJson = Annotated[
    bool,
    typer.Option("--json", help="Print JSON instead.", is_eager=True, callback=remember_json),
]


def asks_otherwise(dtype: str, quantization: str | None) -> bool:
    """Whether the model is to be opened in another form than its own, so that stored results may not fit."""
    return dtype != "auto" or quantization is not None


def open_model(
    name: str,
    device: str,
    dtype: str,
    quantization: Literal["8bit", "4bit"] | None,
    progress: ProgressCallback,
    chat_template_kwargs: str | None = None,
) -> "LocalModel":
    """Open the model that the options name."""
    kwargs = parse_chat_template_kwargs(chat_template_kwargs)
    import_quickly("guardrail.models.local")
    from guardrail.models.loading import LoadOptions
    from guardrail.models.local import LocalModel

    options = LoadOptions(device=device, dtype=dtype, quantization=quantization)
    return LocalModel.load(name, options, progress, kwargs)


def numbers_by_name(option: str, given: Iterable[str] | None) -> dict[str, float]:
    """Read scores given as ``name=number``."""
    from guardrail.policy.conditions import QUANTILES
    from guardrail.utils.text import did_you_mean

    pairs = {}
    for text in given or ():
        name, _, value = text.partition("=")
        if name not in QUANTILES:
            raise OptionError(f"{option}: unknown score {name!r}{did_you_mean(name, QUANTILES)}")
        pairs[name] = number_given(option, value, "hybridgrad=0.02")
    return pairs


def guarantees_given(given: Iterable[str] | None) -> list[dict[str, float]] | None:
    """Read guarantees given as ``max_error@confidence``."""
    if not given:
        return None
    return [
        {
            "max_error": number_given("--certified", text.partition("@")[0], "0.05@0.95"),
            "confidence": number_given("--certified", text.partition("@")[2], "0.05@0.95"),
        }
        for text in given
    ]


def number_given(option: str, text: str, example: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise OptionError(f"{option}: {text!r} is not a number; write, for example, {example}.") from error
