"""``guardrail calibrate``: from questions with known answers to a profile."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from guardrail.cli.common import (
    AsJson,
    ChatTemplateKwargs,
    Device,
    Dtype,
    Limit,
    MaxReasoningTokens,
    MaxTokens,
    Model,
    Quantization,
    QuestionBatchSize,
    Reduction,
    SemanticToken,
    SystemMessage,
    asks_otherwise,
    open_model,
    print_collected,
    print_json,
    progress_bar,
    readable,
    results,
    say,
)
from guardrail.errors import OptionError
from guardrail.models.chat_template import parse_chat_template_kwargs
from guardrail.models.files.reference import DEFAULT_MODEL
from guardrail.models.sampling import Sampling
from guardrail.scoring.options import ScoringOptions

if TYPE_CHECKING:
    from guardrail.calibration.fit import Fitted
    from guardrail.labelling.answers import AnswerRecord
    from guardrail.labelling.collection import Collected

__all__ = ["calibrate", "print_calibration", "summary", "write_report"]


def summary(
    collected: "Collected[AnswerRecord]", fitted: "Fitted", output: Path, stored: Path, report: Path | None
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
        **collected.counts._asdict(),
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
    from guardrail.reports.profile_display import print_profile

    console = results()
    print_profile(console, fitted.profile)
    console.print()
    for note in fitted.notes:
        console.print(note, style="dim", markup=False)
    # Not in a table, which would break a path to fit the terminal.
    for what, path in (("Profile", output), ("Answers", stored), ("Report", report)):
        if path is not None:
            console.print(f"{what} in {path}", soft_wrap=True, markup=False)


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
    "document_gain",
)
_TARGET_ERRORS = (0.05, 0.1, 0.2, 0.3)


_File = Annotated[
    Path,
    typer.Argument(
        help="One JSON object a line: a question with accepted answers, or a prompt with a response and "
        "whether that is correct. Or the answers that an earlier run kept: no model is then needed.",
        metavar="QUESTIONS.jsonl",
        show_default=False,
    ),
]
_Input = Annotated[
    Literal["lines", "prompts_from_log"],
    typer.Option(
        "--input",
        help="What the lines are: questions or answers; or a decision log with full texts, whose prompts are "
        "asked again as the app asked them. Those say nothing of what is right: take a judge that needs no "
        'answers, or fill in "correct" in the file of answers and run again.',
        rich_help_panel=_ANSWERS,
    ),
]
_Output = Annotated[
    Path,
    typer.Option("--output", "-o", help="Write the profile here.", show_default=False),
]
_Judge = Annotated[
    str | None,
    typer.Option(
        help="Who says what is right: exact, contains (the default), f1[:THRESHOLD], squad-exact, "
        "squad-f1[:THRESHOLD], "
        "embedding[:MODEL[:THRESHOLD]], chat:PROVIDER:MODEL, or module:function.",
        callback=readable,
        show_default=False,
        rich_help_panel=_ANSWERS,
    ),
]
_Answers = Annotated[
    Path | None,
    typer.Option(
        help="Keep answers and labels here; by default beside the profile, as PROFILE.answers.jsonl. "
        "Labels corrected there by hand count in the next run.",
        show_default=False,
        rich_help_panel=_ANSWERS,
    ),
]
_Resume = Annotated[
    bool,
    typer.Option(
        "--resume/--overwrite",
        help="Go on with the answers that are kept already, or start afresh.",
        rich_help_panel=_ANSWERS,
    ),
]
_AnsweredBy = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help='Who gave the responses of lines that do not say it (as "model"), if it was not --model: '
        "the profile then holds for that model's answers. Lines of others are left out.",
        callback=readable,
        show_default=False,
        rich_help_panel=_ANSWERS,
    ),
]
_Temperature = Annotated[
    float,
    typer.Option(help="0 for greedy decoding; above it, tokens are drawn.", rich_help_panel=_ANSWERS),
]
_TopP = Annotated[
    float,
    typer.Option(
        help="Draw from the smallest set of tokens with this much probability.", rich_help_panel=_ANSWERS
    ),
]
_DocumentGain = Annotated[
    bool,
    typer.Option(
        "--document-gain",
        help="Score how much the document in a prompt moved its answer, as one more score that the "
        "confidence may read: the context of a question, or what a message declares as its document. Lines "
        "without one are left out, and the profile holds for no prompt without one.",
        rich_help_panel=_ANSWERS,
    ),
]
_TargetError = Annotated[
    list[float] | None,
    typer.Option(
        help="Certify a threshold: of the answers let through, at most this share is wrong. Can be given "
        f"again; without it, {', '.join(f'{error:g}' for error in _TARGET_ERRORS)}.",
        show_default=False,
        rich_help_panel=_PROFILE,
    ),
]
_Confidence = Annotated[
    float, typer.Option(help="How sure to be of each threshold.", rich_help_panel=_PROFILE)
]
_Inputs = Annotated[
    Literal["auto", "hybridgrad", "signals", "probe"],
    typer.Option(
        help="What the confidence is made of: HybridGrad, several scores, or those and a probe of hidden "
        "states. auto takes what does best.",
        rich_help_panel=_PROFILE,
    ),
]
_Calibrator = Annotated[
    Literal["auto", "isotonic", "platt", "venn_abers"],
    typer.Option(help="What makes a probability of it.", rich_help_panel=_PROFILE),
]
_ByKind = Annotated[
    str | None,
    typer.Option(
        metavar="FIELD",
        help="Certify each threshold for each kind of question as well, by the field of a line that names "
        "its kind. It then holds for requests with the tag kind:NAME.",
        callback=readable,
        show_default=False,
        rich_help_panel=_PROFILE,
    ),
]
_Seed = Annotated[
    int,
    typer.Option(min=0, help="What answers and parts are drawn by.", rich_help_panel=_PROFILE),
]
_General = Annotated[
    bool,
    typer.Option(
        "--general",
        help="Make a profile for other people's traffic, like those that ship: it gives a confidence, and "
        "its thresholds are a report and accept no answer of an app.",
        rich_help_panel=_PROFILE,
    ),
]
_Sentences = Annotated[
    bool,
    typer.Option(
        "--sentences",
        help="Make a profile of the sentences of answers, for streaming: sentences; of those that are "
        'labelled by hand in the file of answers ("sentences", "correct"), or, without any, of what scores '
        "are usual. It certifies nothing. Scores are of the mean over tokens, unless told otherwise.",
        rich_help_panel=_PROFILE,
    ),
]
_Report = Annotated[
    Path | None,
    typer.Option(help="Write a report here, as one HTML file.", show_default=False, rich_help_panel=_PROFILE),
]


def calibrate(
    ctx: typer.Context,
    file: _File,
    output: _Output,
    model: Model = DEFAULT_MODEL,
    device: Device = "auto",
    dtype: Dtype = "auto",
    quantization: Quantization = None,
    chat_template_kwargs: ChatTemplateKwargs = None,
    batch_size: QuestionBatchSize = 16,
    reads: _Input = "lines",
    judge: _Judge = None,
    answers: _Answers = None,
    resume: _Resume = True,
    limit: Limit = None,
    answered_by: _AnsweredBy = None,
    system: SystemMessage = None,
    max_tokens: MaxTokens = 64,
    max_reasoning_tokens: MaxReasoningTokens = None,
    temperature: _Temperature = 0.0,
    top_p: _TopP = 1.0,
    target_error: _TargetError = None,
    confidence: _Confidence = 0.95,
    inputs: _Inputs = "auto",
    calibrator: _Calibrator = "auto",
    by_kind: _ByKind = None,
    seed: _Seed = 0,
    general: _General = False,
    sentences: _Sentences = False,
    report: _Report = None,
    semantic_token: SemanticToken = None,
    reduction: Reduction = "sum",
    document_gain: _DocumentGain = False,
    as_json: AsJson = False,
) -> None:
    """Make a profile: how likely this model's answers are to be correct, and what may be let through.

    The model answers the questions, a judge labels the answers, and they are kept as they come: the same
    command again goes on where it was interrupted. Part of the answers is held out, and reported on.

    Exit status: 0 if every line counted, 2 if lines were wrong, 1 if something else failed. The profile is
    written from the others all the same.
    """
    from guardrail.calibration.calibrate import ProfileRequest, make_profile, plan_calibration
    from guardrail.calibration.options import FitOptions
    from guardrail.calibration.profile import Guarantee
    from guardrail.labelling.questions import LabelOptions

    if sentences and (target_error or by_kind):
        raise OptionError("A profile of sentences certifies nothing: leave out --target-error and --by-kind.")
    if sentences and document_gain:
        raise OptionError("How much a document moved a sentence is not known: leave out --document-gain.")
    targets = dict.fromkeys([] if sentences else target_error or _TARGET_ERRORS)
    if sentences and not _is_given(ctx, "reduction"):
        # A long sentence is not less sure for being long.
        reduction = "mean"
    plan = plan_calibration(
        ProfileRequest(
            questions=file,
            output=output,
            model=model,
            labelling=LabelOptions(
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
                document_gain=document_gain,
                keep_positions=not sentences,
                sentences=sentences,
            ),
            fit=FitOptions(
                inputs,
                calibrator,
                [Guarantee(error, confidence) for error in targets],
                seed,
                is_general=general,
                by_kind=by_kind or "",
                unit="sentence" if sentences else "answer",
            ),
            answers=answers,
            report=report,
            judge=judge,
            answered_by=answered_by,
            limit=limit,
            resume=resume,
            reads=reads,
            recheck=asks_otherwise(dtype, quantization),
            answering_options=[_flag(name) for name in _OF_GENERATION if _is_given(ctx, name)],
        )
    )
    if plan.shapes:
        say(f"What is right, by the lines: {plan.shapes}.", err=True)
    with progress_bar() as progress:
        collected = plan.collect(
            lambda: open_model(model, device, dtype, quantization, progress, chat_template_kwargs), progress
        )
    print_collected(collected, plan.stored, "with --judge they are judged again")
    with progress_bar() as progress:
        progress("fitting", 0, None)
        fitted = make_profile(plan.request, collected)
        if report is not None:
            write_report(fitted, report)
    if as_json:
        print_json(summary(collected, fitted, output, plan.stored, report))
    else:
        print_calibration(fitted, output, plan.stored, report)
    if collected.exit_status:
        raise typer.Exit(collected.exit_status)


def write_report(fitted: "Fitted", path: Path) -> None:
    """Write the report of a profile as a page."""
    from guardrail.reports.profile_display import write_profile_html

    write_profile_html(fitted.profile, path, fitted.held_out if fitted.profile.is_calibrated else None)


def _is_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
