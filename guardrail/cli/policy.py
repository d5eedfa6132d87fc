"""``guardrail policy``: check, show, test and explain policies, and try one on held-out answers."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from guardrail.cli.common import (
    AsJson,
    guarantees_given,
    numbers_by_name,
    print_file,
    print_json,
    readable,
    say,
)
from guardrail.cli.what_if import what_if
from guardrail.errors import OptionError, PolicyError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from guardrail.policy.document import Mistake
    from guardrail.policy.dry_run import CaseResult, Given
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


app.command("what-if")(what_if)


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
