"""``guardrail profile``: show a profile, and write its held-out answers."""

from pathlib import Path
from typing import Annotated

import typer

from guardrail.cli.common import AsJson, print_failures, print_json, readable, results, say

__all__ = ["app"]

app = typer.Typer(
    help="Profiles: what guardrail calibrate learned about a model's answers.", no_args_is_help=True
)


@app.callback()
def _profiles() -> None:
    """Profiles: what guardrail calibrate learned about a model's answers."""


@app.command()
def show(
    profile: Annotated[
        str,
        typer.Argument(
            help="A profile, or a model's name for its built-in profile.",
            metavar="FILE",
            show_default=False,
            callback=readable,
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Show a profile: its figures with intervals, its thresholds, and how it was made."""
    from guardrail.calibration.held_out import builtin_profile
    from guardrail.calibration.profile import read_profile

    read = read_profile(builtin_profile(profile) or Path(profile))
    if as_json:
        print_json({**read.as_plain(), "sha256": read.digest})
        return
    from guardrail.reports.profile_display import print_profile

    print_profile(results(), read)


@app.command("held-out")
def held_out(
    profile: Annotated[
        str,
        typer.Argument(
            help="A profile, or a model's name for its built-in profile.",
            metavar="FILE",
            show_default=False,
            callback=readable,
        ),
    ],
    answers: Annotated[
        Path,
        typer.Argument(
            help="The answers it was made from, as kept by guardrail calibrate.",
            metavar="ANSWERS.jsonl",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Output file; by default PROFILE.held-out.jsonl beside the profile.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the answers that a profile was neither fitted nor certified on, without hidden states.

    guardrail policy what-if uses them. Refused if they do not reproduce the profile's report.
    """
    from guardrail.calibration.held_out import builtin_profile, write_held_out
    from guardrail.calibration.profile import read_profile
    from guardrail.calibration.splits import redraw
    from guardrail.labelling.answers import read_answers
    from guardrail.utils.files import check_destination

    path = builtin_profile(profile) or Path(profile)
    output = output or path.with_name(f"{path.stem}.held-out.jsonl")
    check_destination(output, answers)
    read = read_profile(path)
    stored = read_answers(answers)
    print_failures(stored.failures)
    found = redraw(read, stored.records)
    write_held_out(read, found, output)
    if as_json:
        print_json({"answers": len(found), "output": str(output), "profile": read.digest})
    else:
        say(f"{len(found):,} held-out answers in {output}")
