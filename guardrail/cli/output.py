"""Output of commands: results on stdout, progress and errors on stderr."""

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TaskProgressColumn, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed
from rich.progress import TimeRemainingColumn as Remaining
from rich.segment import Segment

from guardrail.errors import GuardrailError
from guardrail.utils.json_lines import plain_json
from guardrail.utils.text import escaped, visible, visible_line
from guardrail.utils.threads import ProgressCallback

if TYPE_CHECKING:
    from guardrail.labelling.collection import Collected
    from guardrail.scoring.batches import Failure

__all__ = [
    "print_collected",
    "print_error",
    "print_failures",
    "print_file",
    "print_json",
    "progress_bar",
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
