"""``guardrail calibrate``: from questions with known answers to a profile."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from guardrail.cli.options import (
    AsJson,
    ChatTemplateKwargs,
    Device,
    Dtype,
    MaxReasoningTokens,
    Model,
    Quantization,
    Reduction,
    SemanticToken,
    asks_otherwise,
    open_model,
    readable,
)
from guardrail.cli.output import print_json, progress_bar, results, say
from guardrail.errors import OptionError
from guardrail.models.chat_template import parse_chat_template_kwargs
from guardrail.models.files.reference import DEFAULT_MODEL, ModelReference
from guardrail.models.sampling import Sampling
from guardrail.scoring.options import ScoringOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guardrail.calibration.fit import Fitted
    from guardrail.calibration.fit_options import FitOptions
    from guardrail.labelling.collection import Collected
    from guardrail.scoring.batches import Failure

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
    from guardrail.reports.profile_terminal import print_profile

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


_ANSWERS = "Answers"
_PROFILE = "Profile"
# Options that say how answers come about, and nothing where they are there.
_OF_GENERATION = (
    "model",
    "device",
    "dtype",
    "quantization",
    "chat_template_kwargs",
    "max_reasoning_tokens",
    "batch_size",
    "resume",
    "limit",
    "answered_by",
    "system",
    "max_tokens",
    "temperature",
    "top_p",
    "semantic_token",
    "reduction",
)
_TARGET_ERRORS = (0.05, 0.1, 0.2, 0.3)


def calibrate(
    ctx: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(
            help="One JSON object a line: a question with accepted answers, or a prompt with a response and "
            "whether that is correct. Or the answers that an earlier run kept: no model is then needed.",
            metavar="QUESTIONS.jsonl",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Write the profile here.", show_default=False),
    ],
    model: Model = DEFAULT_MODEL,
    device: Device = "auto",
    dtype: Dtype = "auto",
    quantization: Quantization = None,
    chat_template_kwargs: ChatTemplateKwargs = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="How many questions the model reads at once.", rich_help_panel="Model")
    ] = 16,
    judge: Annotated[
        str | None,
        typer.Option(
            help="Who says what is right: exact, contains (the default), f1[:THRESHOLD], "
            "embedding[:MODEL[:THRESHOLD]], chat:PROVIDER:MODEL, or module:function.",
            callback=readable,
            show_default=False,
            rich_help_panel=_ANSWERS,
        ),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            help="Keep answers and labels here; by default beside the profile, as PROFILE.answers.jsonl. "
            "Labels corrected there by hand count in the next run.",
            show_default=False,
            rich_help_panel=_ANSWERS,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--overwrite",
            help="Go on with the answers that are kept already, or start afresh.",
            rich_help_panel=_ANSWERS,
        ),
    ] = True,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Take only so many lines.", show_default=False, rich_help_panel=_ANSWERS),
    ] = None,
    answered_by: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help='Who gave the responses of lines that do not say it (as "model"), if it was not --model: '
            "the profile then holds for that model's answers. Lines of others are left out.",
            callback=readable,
            show_default=False,
            rich_help_panel=_ANSWERS,
        ),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(
            help="A system message before every conversation that has none.",
            callback=readable,
            rich_help_panel=_ANSWERS,
        ),
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Most tokens of an answer.", rich_help_panel=_ANSWERS)] = 64,
    max_reasoning_tokens: MaxReasoningTokens = None,
    temperature: Annotated[
        float,
        typer.Option(help="0 for greedy decoding; above it, tokens are drawn.", rich_help_panel=_ANSWERS),
    ] = 0.0,
    top_p: Annotated[
        float,
        typer.Option(
            help="Draw from the smallest set of tokens with this much probability.", rich_help_panel=_ANSWERS
        ),
    ] = 1.0,
    target_error: Annotated[
        list[float] | None,
        typer.Option(
            help="Certify a threshold: of the answers let through, at most this share is wrong. Can be given "
            f"again; without it, {', '.join(f'{error:g}' for error in _TARGET_ERRORS)}.",
            show_default=False,
            rich_help_panel=_PROFILE,
        ),
    ] = None,
    confidence: Annotated[
        float, typer.Option(help="How sure to be of each threshold.", rich_help_panel=_PROFILE)
    ] = 0.95,
    inputs: Annotated[
        Literal["auto", "hybridgrad", "signals", "probe"],
        typer.Option(
            help="What the confidence is made of: HybridGrad, several scores, or those and a probe of hidden "
            "states. auto takes what does best.",
            rich_help_panel=_PROFILE,
        ),
    ] = "auto",
    calibrator: Annotated[
        Literal["auto", "isotonic", "platt", "venn_abers"],
        typer.Option(help="What makes a probability of it.", rich_help_panel=_PROFILE),
    ] = "auto",
    seed: Annotated[
        int,
        typer.Option(min=0, help="What answers and parts are drawn by.", rich_help_panel=_PROFILE),
    ] = 0,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Write a report here, as one HTML file.", show_default=False, rich_help_panel=_PROFILE
        ),
    ] = None,
    semantic_token: SemanticToken = None,
    reduction: Reduction = "sum",
    as_json: AsJson = False,
) -> None:
    """Make a profile: how likely this model's answers are to be correct, and what may be let through.

    The model answers the questions, a judge labels the answers, and they are kept as they come: the same
    command again goes on where it was interrupted. Part of the answers is held out, and reported on.

    Exit status: 0 if every line counted, 2 if lines were wrong, 1 if something else failed. The profile is
    written from the others all the same.
    """
    from guardrail.calibration.fit_options import FitOptions
    from guardrail.calibration.profile import Guarantee
    from guardrail.labelling.answers import holds_answers
    from guardrail.labelling.collection import collect, reuse
    from guardrail.labelling.judges import as_judge
    from guardrail.labelling.questions import LabelOptions, of_one_author, parse_questions
    from guardrail.models.files.resolve import is_newer
    from guardrail.utils.files import check_destination
    from guardrail.utils.json_lines import read_json_lines

    targets = dict.fromkeys(target_error or _TARGET_ERRORS)
    fit_options = FitOptions(inputs, calibrator, [Guarantee(error, confidence) for error in targets], seed)
    options = LabelOptions(
        sampling=Sampling(
            max_tokens,
            temperature,
            top_p,
            seed if temperature else None,
            max_reasoning_tokens=max_reasoning_tokens,
        ),
        system=system,
        scoring=ScoringOptions(semantic_token=semantic_token, reduction=reduction),
        batch_size=batch_size,
        chat_template_kwargs=parse_chat_template_kwargs(chat_template_kwargs),
    )
    reference = ModelReference.parse(model)
    lines = read_json_lines(file)[:limit]
    has_answers = holds_answers(lines)
    if has_answers:
        _refuse_unused(ctx, file)
    stored = answers or (file if has_answers else _beside(output))
    for path in _destinations(output, report, None if stored == file else stored):
        check_destination(path, file)
    decided = as_judge(judge) if judge else None
    with progress_bar() as progress:
        if has_answers:
            collected = reuse(file, decided, stored, progress)
        else:
            parsed = parse_questions(lines, judge_needs_answers=decided is None or decided.needs_answers)
            if parsed.shapes:
                say(f"What is right, by the lines: {parsed.shapes}.", err=True)
            questions, author = of_one_author(parsed, answered_by, str(reference))
            collected = collect(
                questions,
                decided,
                stored,
                lambda: open_model(model, device, dtype, quantization, progress, chat_template_kwargs),
                replace(options, answered_by=author),
                model_name=str(reference),
                recheck=resume and (asks_otherwise(dtype, quantization) or is_newer(reference, stored)),
                overwrite=not resume,
                progress=progress,
            )
    tell(collected, stored)
    with progress_bar() as progress:
        progress("fitting", 0, None)
        fitted = _fit(collected, file, fit_options, output, report)
    if as_json:
        print_json(summary(collected, fitted, output, stored, report))
    else:
        print_calibration(fitted, output, stored, report)
    if collected.exit_status:
        raise typer.Exit(collected.exit_status)


def _fit(
    collected: "Collected", file: Path, options: "FitOptions", output: Path, report: Path | None
) -> "Fitted":
    from guardrail.calibration.calibrate import calibrate as make_profile
    from guardrail.calibration.profile import write_profile

    fitted = make_profile(collected, file, options)
    write_profile(fitted.profile, output)
    if report is not None:
        from guardrail.reports.html import write_profile_html

        write_profile_html(fitted.profile, report, fitted.held_out if fitted.profile.is_calibrated else None)
    return fitted


def _refuse_unused(ctx: typer.Context, file: Path) -> None:
    """Refuse what would be without effect: the answers are there, and are taken as they were made."""
    given = [name for name in _OF_GENERATION if _is_given(ctx, name)]
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise OptionError(
            f"{file} holds answers already, made by the model and with the options that stand in it: leave "
            f"out {options}."
        )


def _is_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _beside(output: Path) -> Path:
    stem = output.stem if output.suffix == ".json" else output.name
    return output.with_name(f"{stem}.answers.jsonl")


def _destinations(output: Path, report: Path | None, stored: Path | None) -> list[Path]:
    paths = [path for path in (output, report, stored) if path is not None]
    if len({path.absolute() for path in paths}) < len(paths):
        raise OptionError("Profile, answers and report need a file each: two of them are the same.")
    return paths
