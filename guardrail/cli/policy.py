"""``guardrail policy``: check, show, test and explain policies, and try one on held-out answers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from guardrail.cli.common import (
    AsJson,
    guarantees_given,
    numbers_by_name,
    print_failures,
    print_file,
    print_json,
    readable,
    say,
)
from guardrail.errors import OptionError, PolicyError, RecordError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from guardrail.calibration.held_out import HeldOutAnswer
    from guardrail.calibration.profile import Profile
    from guardrail.policy.document import Mistake
    from guardrail.policy.dry_run import Accepted, CaseResult, Given, WhatIf
    from guardrail.policy.model import Policy

__all__ = ["app"]


app = typer.Typer(help="Check, show, test and explain policies. Loads no model.", no_args_is_help=True)


_FAILED = 1
File = Annotated[
    str,
    typer.Argument(
        metavar="FILE", help="A policy file, or builtin:NAME.", show_default=False, callback=readable
    ),
]


@app.command("list")
def list_policies(as_json: AsJson = False) -> None:
    """List the built-in policies."""
    from guardrail.policy.load import load_policy
    from guardrail.policy.yaml_document import BUILTIN, builtin_policies

    rows = [(f"{BUILTIN}{name}", load_policy(f"{BUILTIN}{name}").description) for name in builtin_policies()]
    if as_json:
        print_json([{"name": name, "description": text} for name, text in rows], indent=2)
        return
    width = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        say(f"{name.ljust(width)}  {text}")


@app.command()
def check(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="Policy files, or builtin:NAME.", show_default=False, callback=readable
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Report every error in policies, each with its line. Exit status 2 if there is one."""
    from guardrail.policy.load import check_policy

    checked = [(file, check_policy(file)) for file in files]
    if as_json:
        print_json(
            {
                "files": [
                    {
                        "file": file,
                        "ok": found.policy is not None,
                        "digest": found.policy.digest if found.policy else None,
                        "mistakes": _plain(found.mistakes),
                        "warnings": _plain(found.warnings),
                    }
                    for file, found in checked
                ]
            }
        )
    else:
        for file, found in checked:
            for mistake in found.mistakes:
                say(str(mistake))
            for warning in found.warnings:
                say(f"{warning.place} {warning.path}: warning: {warning.text}")
            if found.policy is not None:
                say(f"{file}: ok ({found.policy.name}, {len(found.policy.rules)} rules)")
    if any(found.policy is None for _, found in checked):
        raise typer.Exit(PolicyError.exit_status)


@app.command()
def show(
    file: File,
    resolved: Annotated[
        bool,
        typer.Option(
            "--resolved", help="With base policies merged, variables filled in and defaults written out."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print a policy as written, or fully resolved."""
    policy = _load(file, as_json)
    if as_json:
        print_json({"digest": policy.digest, "policy": policy.as_plain()})
        return
    if not resolved:
        from guardrail.policy.yaml_document import policy_text

        print_file(policy_text(_path(file)))
        return
    from guardrail.policy.editing import policy_yaml

    print_file(f"# sha256 {policy.digest}\n{policy_yaml(policy)}")


@app.command()
def schema() -> None:
    """Print the JSON schema of a policy file, for editors."""
    from guardrail.policy.validation import schema_text

    print_file(schema_text())


@app.command("test")
def try_cases(
    file: File,
    cases: Annotated[
        Path, typer.Argument(metavar="CASES.yaml", help="Cases: given evidence and expected decisions.")
    ],
    as_json: AsJson = False,
) -> None:
    """Test a policy on cases. Exit status 1 if a case fails, 2 if a file is invalid."""
    from guardrail.policy.dry_run import read_cases, run_cases

    policy = _load(file, as_json)
    try:
        results = run_cases(policy, read_cases(cases))
    except PolicyError as error:
        raise _refused(error, as_json) from error
    failed = [result for result in results if not result.holds]
    if as_json:
        print_json({"cases": [_case(result) for result in results], "failed": len(failed)})
    else:
        for result in failed:
            say(f"{result.place} {result.name}")
            for line in result.differences:
                say(f"    {line}")
        say(f"{len(results) - len(failed)} of {len(results)} cases pass")
    if failed:
        raise typer.Exit(_FAILED)


@app.command()
def explain(
    file: File,
    confidence: Annotated[float | None, typer.Option(help="Probability of being correct, 0 to 1.")] = None,
    uncertainty: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A score, such as hybridgrad=0.02.")
    ] = None,
    quantile: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=SHARE", help="A score's quantile in the profile, such as hybridgrad=0.9."),
    ] = None,
    certified: Annotated[
        list[str] | None,
        typer.Option(metavar="ERROR@CONFIDENCE", help="A guarantee that accepts the answer: 0.05@0.95."),
    ] = None,
    finish_reason: Annotated[
        Literal["stop", "length", "reasoning_length", "unknown"], typer.Option(help="Why the answer ended.")
    ] = "stop",
    familiar: Annotated[
        Literal["untried", "familiar", "unlike"] | None,
        typer.Option(help="How like the profile's the questions so far are."),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag of the request.", callback=readable)] = None,
    tool_call: Annotated[
        list[str] | None, typer.Option(help="A tool that the answer calls.", callback=readable)
    ] = None,
    error: Annotated[
        str, typer.Option(help="Why the answer could not be scored.", show_default=False, callback=readable)
    ] = "",
    outside_domain: Annotated[
        str,
        typer.Option(
            metavar="WHY",
            help='Why the profile does not hold for the answer, such as "answered by another model".',
            show_default=False,
            callback=readable,
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show what a policy would decide on an answer, and the outcome of each rule."""
    from guardrail.policy.decide import decide
    from guardrail.policy.decide import explain as explain_rules

    policy = _load(file, as_json)
    given = _given(
        confidence=confidence,
        uncertainty=numbers_by_name("--uncertainty", uncertainty),
        quantile=numbers_by_name("--quantile", quantile),
        certified=guarantees_given(certified),
        finish_reason=finish_reason,
        familiar=familiar,
        tags=tag or (),
        tool_call=tool_call or (),
        error=error,
        outside_domain=outside_domain,
    )
    evidence = given.evidence()
    decision, rules = decide(policy, evidence), explain_rules(policy, evidence)
    if as_json:
        decided = {name: getattr(decision, name) for name in decision.__slots__}
        print_json({"decision": decided, "rules": [rule._asdict() for rule in rules]})
        return
    to = f" to {decision.to}" if decision.to else ""
    observed = "" if decision.enforced else " (observed only: the answer is shown)"
    say(f"{decision.action}{to}, by {decision.rule}{observed}")
    say(f"    {decision.reason}")
    if decision.message is not None:
        say(f"    message: {decision.message}")
    say("")
    width = max(len(rule.rule) for rule in rules)
    for rule in rules:
        say(f"{rule.rule.ljust(width)}  {rule.outcome.ljust(7)}  {rule.why}")


@app.command("what-if")
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


def _load(file: str, as_json: bool) -> "Policy":
    from guardrail.policy.load import load_policy

    try:
        return load_policy(file)
    except PolicyError as error:
        raise _refused(error, as_json) from error


def _refused(error: PolicyError, as_json: bool) -> Exception:
    """Print each mistake on its own line; with --json also one object."""
    for mistake in error.mistakes:
        say(f"error: {mistake}", err=True)
    if as_json:
        said = {"message": " ".join(str(error).split()), "mistakes": list(error.mistakes)}
        print_json({"error": {"type": type(error).__name__, **said}})
    return typer.Exit(error.exit_status)


def _path(file: str) -> Path:
    from guardrail.policy.yaml_document import BUILTIN, builtin_policy

    return builtin_policy(file.removeprefix(BUILTIN)) if file.startswith(BUILTIN) else Path(file)


def _given(**values: Any) -> "Given":
    from pydantic import ValidationError

    from guardrail.policy.dry_run import Given

    try:
        return Given(**values)
    except ValidationError as error:
        first = error.errors()[0]
        where = str(first["loc"][0]).replace("_", "-")
        raise OptionError(f"--{where}: {first['msg']}.") from error


def _plain(mistakes: "Iterable[Mistake]") -> list[dict[str, Any]]:
    return [{**one.place._asdict(), "path": one.path, "text": one.text} for one in mistakes]


def _case(result: "CaseResult") -> dict[str, Any]:
    return {
        "name": result.name,
        **result.place._asdict(),
        "holds": result.holds,
        "action": result.decision.action,
        "rule": result.decision.rule,
        "differences": list(result.differences),
    }


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
