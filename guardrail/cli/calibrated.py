"""How a calibration looks on a terminal: what became of the lines, and the profile."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardrail.cli.output import results, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardrail.calibration.collecting import Collected
    from guardrail.calibration.fitting.fit import Fitted
    from guardrail.scoring.records import Failure

__all__ = ["print_calibration", "print_failures", "summary", "tell"]

_SHOWN_FAILURES = 5


def tell(collected: "Collected", stored: Path) -> None:
    """Say on stderr what became of the lines."""
    counts = _counts(collected)
    kept = f", {collected.kept:,} of them by an earlier run" if collected.kept else ""
    say(
        f"{counts['answers']:,} answers{kept}: {counts['correct']:,} correct, {counts['wrong']:,} wrong, "
        f"{counts['unlabelled']:,} without a label. They are in {stored}",
        err=True,
    )
    if collected.judged_again:
        say(f"{collected.judged_again:,} of them were judged again.", err=True)
    if collected.judge_failures:
        reason = next(one.judgement.reason for one in collected.records if one.judgement.failed)
        say(
            f"The judge failed on {collected.judge_failures:,}, which do not count; with --judge they are "
            f"judged again. {reason}",
            err=True,
        )
    print_failures(collected.failures)


def summary(
    collected: "Collected", fitted: "Fitted", output: Path, stored: Path, report: Path | None
) -> dict[str, Any]:
    """Plain values for JSON."""
    profile = fitted.profile
    return {
        "profile": str(output),
        "sha256": profile.digest,
        "model": profile.model.name,
        "answered_by": profile.author,
        "answers_file": str(stored),
        "html": str(report) if report else None,
        **_counts(collected),
        "kept": collected.kept,
        "judged_again": collected.judged_again,
        "judge": collected.judge,
        "judge_failures": collected.judge_failures,
        "failures": [{"line": failure.line, "error": failure.reason} for failure in collected.failures],
        "certified": [threshold.model_dump(mode="json") for threshold in profile.certified],
        "report": dict(profile.report),
        "notes": list(fitted.notes),
    }


def print_calibration(fitted: "Fitted", output: Path, stored: Path, report: Path | None) -> None:
    """Print the profile and where everything is."""
    from guardrail.calibration.report.terminal import print_profile

    console = results()
    print_profile(console, fitted.profile)
    console.print()
    for note in fitted.notes:
        console.print(note, style="dim", markup=False)
    # Not in a table, which would break a path to fit the terminal.
    for what, path in (("Profile", output), ("Answers", stored), ("Report", report)):
        if path is not None:
            console.print(f"{what} in {path}", soft_wrap=True, markup=False)


def print_failures(failures: "Sequence[Failure]") -> None:
    """Say on stderr which lines do not count, and why."""
    if not failures:
        return
    say(f"{len(failures):,} lines do not count:", err=True)
    for failure in failures[:_SHOWN_FAILURES]:
        say(f"  line {failure.line}: {failure.reason}", err=True)
    if len(failures) > _SHOWN_FAILURES:
        say(f"  and {len(failures) - _SHOWN_FAILURES:,} more; --json lists them all", err=True)


def _counts(collected: "Collected") -> dict[str, int]:
    labels = [record.correct for record in collected.records]
    return {
        "answers": len(labels),
        "correct": labels.count(True),
        "wrong": labels.count(False),
        "unlabelled": labels.count(None),
    }
