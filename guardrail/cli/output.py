"""What commands print: results on stdout; progress and errors on stderr."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TaskProgressColumn, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed
from rich.progress import TimeRemainingColumn as Remaining

from guardrail.errors import GuardrailError
from guardrail.models.progress import ProgressCallback
from guardrail.utils.json_lines import as_json
from guardrail.utils.plain_json import plain_json

__all__ = ["print_error", "print_json", "progress_bar", "remember_json", "results", "stdout_is_terminal"]

_AS_JSON = "guardrail.json"
# Where stderr is a file, a line this often says how far it is.
_SECONDS_BETWEEN_LINES = 30.0


def results() -> Console:
    """Where a result for people goes. Plain text where stdout is no terminal."""
    return Console(highlight=False)


def print_json(record: Mapping[str, Any]) -> None:
    """Print one JSON object on one line."""
    # As bytes: JSON is UTF-8, whatever the terminal's encoding.
    typer.echo(as_json(plain_json(record)).encode())


def remember_json(ctx: typer.Context, asked: bool) -> bool:
    """Note that this run is to print JSON, so that its errors are JSON too."""
    ctx.meta[_AS_JSON] = asked
    return asked


def print_error(ctx: typer.Context, error: GuardrailError) -> None:
    """One line on stderr, and an object on stdout where JSON was asked for."""
    message = " ".join(str(error).split())
    typer.echo(f"error: {message}", err=True)
    if ctx.meta.get(_AS_JSON):
        print_json({"error": {"type": type(error).__name__, "message": message}})


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[ProgressCallback]:
    """A bar on stderr with an estimate of the time left; lines, and few of them, where that is no terminal.

    Args:
        quiet: Show nothing, because the result itself is scrolling by on the same terminal.
    """
    console = Console(stderr=True)
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
        # A result that is printed meanwhile belongs on stdout, not above the bar.
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
    """Whether a person sees stdout."""
    return sys.stdout.isatty()


def _left(seconds: float, done: int, to_do: int) -> str:
    """How long the rest takes if it goes on like this, in words; nothing where that is not known yet."""
    if done <= 0:
        return ""
    return f", about {timedelta(seconds=round(seconds / done * to_do))} left"
