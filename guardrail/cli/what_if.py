"""``guardrail policy what-if``: what a policy would do to answers that are known to be right or wrong."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from guardrail.cli.common import AsJson, print_failures, print_json, readable, say
from guardrail.errors import RecordError

if TYPE_CHECKING:
    from guardrail.calibration.held_out import HeldOutAnswer
    from guardrail.calibration.profile import Profile
    from guardrail.policy.dry_run import Accepted, WhatIf
    from guardrail.policy.model import Policy

__all__ = ["what_if"]


def what_if(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="A policy file, or builtin:NAME.", show_default=False, callback=readable
        ),
    ],
    answers: Annotated[
        Path | None,
        typer.Argument(
            metavar="ANSWERS.jsonl",
            help="The profile's held-out answers (guardrail profile held-out), or the answers file that it "
            "was made from. By default the held-out answers beside the profile, or those that ship.",
            show_default=False,
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            help="A profile, or a model's name for its built-in profile; by default the policy's.",
            show_default=False,
            callback=readable,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Report what a policy would do to known answers: how many it shows, and how many of those are wrong.

    Uses only answers that the profile was neither fitted nor certified on.
    """
    from guardrail.calibration.profile import read_profile
    from guardrail.policy.dry_run import known_answers
    from guardrail.policy.dry_run import what_if as decide_all
    from guardrail.policy.load import load_policy
    from guardrail.reports.formatting import counted

    policy = load_policy(file)
    path = _profile_path(policy, profile)
    read = read_profile(path)
    held_out = _held_out(path, read, answers)
    found = decide_all(policy, known_answers(read, held_out))
    if as_json:
        print_json(_effect(found, read))
        return
    say(f"{counted(len(held_out), 'held-out answer')} of {read.author}")
    say("")
    for action, count in found.actions.items():
        say(f"{action:<9} {count:>6,}")
    say("")
    for name, accepted in (("passed", found.passed), ("shown", found.shown)):
        say(f"{name:<9} {_sentence(accepted)}")
    say("")
    width = max(map(len, found.rules))
    for rule, count in found.rules.items():
        say(f"{rule:<{width}} {count:>6,}")


def _profile_path(policy: "Policy", given: str | None) -> Path:
    from guardrail.calibration.held_out import builtin_profile
    from guardrail.models.files.reference import DEFAULT_MODEL

    if given is not None:
        return builtin_profile(given) or Path(given)
    model = policy.model or DEFAULT_MODEL
    path = policy.profile_path or builtin_profile(model)
    if path is None:
        raise RecordError(f"No profile ships for {model}: name one with --profile.")
    return path


def _held_out(path: Path, profile: "Profile", answers: Path | None) -> "tuple[HeldOutAnswer, ...]":
    from guardrail.calibration.held_out import find_held_out, holds_held_out, read_held_out
    from guardrail.calibration.splits import redraw
    from guardrail.labelling.answers import read_answers

    answers = answers or find_held_out(path)
    if answers is None:
        raise RecordError(
            f"There are no held-out answers beside {path}. Name the answers file that guardrail calibrate "
            "kept, or write the held-out answers with guardrail profile held-out."
        )
    if holds_held_out(answers):
        return read_held_out(answers, profile)
    found = read_answers(answers)
    print_failures(found.failures)
    return redraw(profile, found.records)


def _sentence(accepted: "Accepted") -> str:
    from guardrail.reports.formatting import interval, percent

    coverage, error = accepted.coverage, accepted.error
    if coverage.value is None or error.value is None:
        return "none"
    return (
        f"{accepted.count:,} ({percent(coverage.value)}), error rate {percent(error.value)}, "
        f"95\N{NO-BREAK SPACE}% interval {interval(error, as_percent=True)}"
    )


def _effect(found: "WhatIf", profile: "Profile") -> dict[str, Any]:
    return {
        "profile": profile.digest,
        "answers": len(found.decisions),
        "actions": dict(found.actions),
        "rules": dict(found.rules),
        **{
            name: {"count": one.count, "coverage": one.coverage.as_plain(), "error": one.error.as_plain()}
            for name, one in (("passed", found.passed), ("shown", found.shown))
        },
    }
