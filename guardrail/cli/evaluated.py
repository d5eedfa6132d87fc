"""How an evaluation looks on a terminal: what became of the lines, and the comparison."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardrail.cli.calibrated import print_failures
from guardrail.cli.output import results, say

if TYPE_CHECKING:
    from guardrail.evaluation.collecting import Evaluated
    from guardrail.evaluation.comparing import Comparison
    from guardrail.evaluation.report.setting import Setting

__all__ = ["machine_of", "print_evaluation", "summary", "tell"]


def tell(collected: "Evaluated", stored: Path) -> None:
    """Say on stderr what became of the lines."""
    labels = [record.judgement.correct for record in collected.records]
    kept = f", {collected.kept:,} of them by an earlier run" if collected.kept else ""
    say(
        f"{len(labels):,} answers{kept}: {labels.count(True):,} correct, {labels.count(False):,} wrong, "
        f"{labels.count(None):,} without a label. They are in {stored}",
        err=True,
    )
    if collected.judged_again:
        say(f"{collected.judged_again:,} of them were judged again.", err=True)
    if collected.judge_failures:
        reason = next(one.judgement.reason for one in collected.records if one.judgement.failed)
        say(
            f"The judge failed on {collected.judge_failures:,}, which do not count; the same command again "
            f"has them judged again. {reason}",
            err=True,
        )
    print_failures(collected.failures)


def summary(
    comparison: "Comparison",
    setting: "Setting",
    collected: "Evaluated",
    stored: Path,
    reports: Sequence[Path],
) -> dict[str, Any]:
    """Plain values for JSON."""
    return {
        **setting.as_plain(),
        **comparison.as_plain(),
        "kept": collected.kept,
        "judged_again": collected.judged_again,
        "judge_failures": collected.judge_failures,
        "failures": [{"line": failure.line, "error": failure.reason} for failure in collected.failures],
        "results_file": str(stored),
        "reports": [str(path) for path in reports],
    }


def print_evaluation(
    comparison: "Comparison", setting: "Setting", stored: Path, reports: Sequence[Path]
) -> None:
    """Print the comparison and where everything is."""
    from guardrail.evaluation.report.terminal import print_comparison

    console = results()
    print_comparison(console, comparison, setting)
    console.print()
    # Not in a table, which would break a path to fit the terminal.
    for what, path in (("Results", stored), *(("Report", path) for path in reports)):
        console.print(f"{what} in {path}", soft_wrap=True, markup=False)


def machine_of(collected: "Evaluated") -> str:
    """What the answers were made on."""
    return "; ".join(dict.fromkeys(record.costs.machine for record in collected.records))
