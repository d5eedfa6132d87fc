"""The ``guardrail`` command: its subcommands, and how errors end them."""

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from guardrail import __version__
from guardrail.cli import models, policy, profile, queue
from guardrail.cli.ask import ask
from guardrail.cli.bench import bench
from guardrail.cli.calibrate import calibrate
from guardrail.cli.common import print_error, say, without_orders
from guardrail.cli.demo import demo
from guardrail.cli.evaluate import evaluate
from guardrail.cli.score import score
from guardrail.cli.serve import serve
from guardrail.cli.sps import sps
from guardrail.errors import GuardrailError

__all__ = ["app", "main"]

_INTERRUPTED = 130


class _Commands(TyperGroup):
    """Ends a failed command with one sentence and an exit status instead of a traceback."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().make_context(*args, **kwargs)
        except Exception as error:
            without_orders(error)
            raise

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except GuardrailError as error:
            print_error(ctx, error)
            raise typer.Exit(error.exit_status) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(_INTERRUPTED) from error
        except Exception as error:
            if not _is_out_of_memory(error):
                without_orders(error)
                raise
            print_error(
                ctx,
                GuardrailError(
                    "Out of memory: choose a smaller model, a shorter prompt, a smaller batch or "
                    "--dtype bfloat16."
                ),
            )
            raise typer.Exit(1) from error


# Typer's pretty tracebacks show local variables, and with them prompts and tokens.
app = typer.Typer(
    cls=_Commands,
    help="Answers of a local language model, each with its uncertainty (HybridGrad).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(ask)
app.command()(score)
app.command()(calibrate)
app.command()(evaluate)
app.command()(bench)
app.command()(demo)
app.command()(serve)
app.command()(sps)
app.add_typer(models.app, name="models")
app.add_typer(policy.app, name="policy")
app.add_typer(profile.app, name="profile")
app.add_typer(queue.app, name="queue")


def _print_version(asked: bool) -> None:
    if asked:
        say(f"guardrail {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line with this process's arguments."""
    app(prog_name="guardrail")


def _is_out_of_memory(error: Exception) -> bool:
    # Not imported: an error of torch needs a loaded torch.
    torch = sys.modules.get("torch")
    kinds = (MemoryError,) if torch is None else (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)
