"""``guardrail profile``: show a profile, adapt it to other questions, and write its held-out answers."""

from pathlib import Path
from typing import Annotated

import typer

from guardrail.cli.common import (
    AsJson,
    Device,
    Dtype,
    QuestionBatchSize,
    SystemMessage,
    asks_otherwise,
    open_model,
    print_collected,
    print_failures,
    print_json,
    progress_bar,
    readable,
    results,
    say,
)

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


@app.command()
def adapt(
    profile: Annotated[
        str,
        typer.Argument(
            help="A profile, or a model's name for its built-in profile.",
            metavar="PROFILE",
            show_default=False,
            callback=readable,
        ),
    ],
    labels: Annotated[
        Path,
        typer.Option(
            help="20 or more answers to the new questions: questions with accepted answers, responses with "
            "whether they are correct (as guardrail queue export writes them), or answers that guardrail "
            "calibrate kept.",
            metavar="FEW.jsonl",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Write the new profile here.", show_default=False)
    ],
    answers: Annotated[
        Path | None,
        typer.Option(
            help="Keep answers and labels here; by default beside the new profile, as OUTPUT.answers.jsonl.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Where the profile's model is, if not under its name.", show_default=False),
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    judge: Annotated[
        str | None,
        typer.Option(
            help="Who says what is right, as for guardrail calibrate.", callback=readable, show_default=False
        ),
    ] = None,
    system: SystemMessage = None,
    batch_size: QuestionBatchSize = 16,
    as_json: AsJson = False,
) -> None:
    """Adapt a profile's confidence to other questions, by a few answers to them.

    Of 20 to 30 answers it learns how much surer or less sure to be. The new profile holds for answers like
    these, says how far its confidence may be off, and certifies nothing.
    """
    from guardrail.calibration.adapt import adapt as adapt_to
    from guardrail.calibration.adapt import adapting_request
    from guardrail.calibration.calibrate import plan_calibration
    from guardrail.calibration.held_out import builtin_profile
    from guardrail.calibration.profile import read_profile, write_profile

    path = builtin_profile(profile) or Path(profile)
    read = read_profile(path)
    plan = plan_calibration(
        adapting_request(
            read,
            labels,
            output,
            model=model,
            answers=answers,
            judge=judge,
            system=system,
            batch_size=batch_size,
            recheck=asks_otherwise(dtype, None),
        )
    )
    with progress_bar() as progress:
        collected = plan.collect(
            lambda: open_model(plan.request.model, device, dtype, None, progress, None), progress
        )
    print_collected(collected, plan.stored, "with --judge they are judged again")
    adapted = adapt_to(read, collected, labels)
    write_profile(adapted, output)
    if as_json:
        print_json(
            {
                "profile": str(output),
                "sha256": adapted.digest,
                "adapted_from": read.digest,
                "answers_file": str(plan.stored),
                "answers": adapted.making.answers,
                "correct": adapted.making.correct,
            }
        )
    else:
        from guardrail.reports.profile_display import print_profile

        print_profile(results(), adapted)
        say(f"Profile in {output}")
    if collected.exit_status:
        raise typer.Exit(collected.exit_status)


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
