"""``guardrail profile``: what a profile holds."""

from pathlib import Path
from typing import Annotated

import typer

from guardrail.cli.options import AsJson, readable
from guardrail.cli.output import print_json, results

__all__ = ["app"]

app = typer.Typer(
    help="Profiles: what was learned of a model's answers by guardrail calibrate.", no_args_is_help=True
)


@app.callback()
def _profiles() -> None:
    """Profiles: what was learned of a model's answers by guardrail calibrate."""


@app.command()
def show(
    profile: Annotated[
        str,
        typer.Argument(
            help="A profile, or a model's name for the one that comes with guardrail.",
            metavar="FILE",
            show_default=False,
            callback=readable,
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Show a profile: its figures, each with its interval, its thresholds, and how it was made."""
    from guardrail.calibration.builtin import builtin_profile
    from guardrail.calibration.profile import read_profile

    read = read_profile(builtin_profile(profile) or Path(profile))
    if as_json:
        print_json({**read.model_dump(mode="json"), "sha256": read.digest})
        return
    from guardrail.calibration.report.terminal import print_profile

    print_profile(results(), read)
