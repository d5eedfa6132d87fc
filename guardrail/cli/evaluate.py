"""``guardrail evaluate``: which method tells right from wrong answers, on one's own model and questions."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from guardrail.cli.calibrate import print_failures
from guardrail.cli.options import (
    AsJson,
    ChatTemplateKwargs,
    Device,
    Dtype,
    MaxReasoningTokens,
    Model,
    Quantization,
    asks_otherwise,
    open_model,
    readable,
)
from guardrail.cli.output import print_json, progress_bar, results, say
from guardrail.errors import OptionError
from guardrail.models.chat_template import parse_chat_template_kwargs
from guardrail.models.files.reference import DEFAULT_MODEL, ModelReference
from guardrail.models.sampling import Sampling

if TYPE_CHECKING:
    from collections.abc import Mapping

    from guardrail.calibration.profile import Profile
    from guardrail.evaluation.compare import Comparison
    from guardrail.evaluation.datasets import QuestionSource
    from guardrail.evaluation.methods import Method
    from guardrail.evaluation.stored_answers import Evaluated
    from guardrail.labelling.questions import Questions
    from guardrail.models.local import LocalModel
    from guardrail.reports.comparison_report import Setting
    from guardrail.utils.progress import ProgressCallback

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
    from guardrail.reports.comparison_report import print_comparison

    console = results()
    print_comparison(console, comparison, setting)
    console.print()
    # Not in a table, which would break a path to fit the terminal.
    for what, path in (("Results", stored), *(("Report", path) for path in reports)):
        console.print(f"{what} in {path}", soft_wrap=True, markup=False)


def machine_of(collected: "Evaluated") -> str:
    """What the answers were made on."""
    return "; ".join(dict.fromkeys(record.costs.machine for record in collected.records))


_ANSWERS = "Answers"
_METHODS = "Methods"
_REPORT = "Report"


def evaluate(
    questions: Annotated[
        str,
        typer.Argument(
            help="A file with one JSON object a line, a question with accepted answers or a response to be "
            "judged; or sciq, triviaqa, truthfulqa, nq_open.",
            metavar="QUESTIONS.jsonl|NAME",
            show_default=False,
        ),
    ],
    model: Model = DEFAULT_MODEL,
    device: Device = "auto",
    dtype: Dtype = "auto",
    quantization: Quantization = None,
    chat_template_kwargs: ChatTemplateKwargs = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="How many questions the model reads at once.", rich_help_panel="Model")
    ] = 16,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            help="Methods or groups of them (one_pass, ablations, sampling, all), with commas between. A "
            "gradient's method takes arguments: hybridgrad[semantic_token=-1,reduction=mean]. By default "
            "one_pass.",
            show_default=False,
            rich_help_panel=_METHODS,
        ),
    ] = None,
    samples: Annotated[
        int,
        typer.Option(min=2, help="Answers drawn for methods that need others.", rich_help_panel=_METHODS),
    ] = 10,
    nli: Annotated[
        str | None,
        typer.Option(
            help="Model that tells whether one text follows from another, for methods that compare meanings.",
            show_default=False,
            rich_help_panel=_METHODS,
        ),
    ] = None,
    cross_encoder: Annotated[
        str | None,
        typer.Option(
            help="Model that tells how alike two texts are, likewise.",
            show_default=False,
            rich_help_panel=_METHODS,
        ),
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            help="Add this profile's confidence as the method confidence. It must not be made of these "
            "questions.",
            show_default=False,
            rich_help_panel=_METHODS,
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="The method that differences are to; by default hybridgrad.",
            show_default=False,
            rich_help_panel=_METHODS,
        ),
    ] = None,
    judge: Annotated[
        str,
        typer.Option(
            help="Who says what is right: exact, contains, f1[:THRESHOLD], embedding[:MODEL[:THRESHOLD]], "
            "chat:PROVIDER:MODEL, or module:function.",
            callback=readable,
            rich_help_panel=_ANSWERS,
        ),
    ] = "contains",
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Take only so many lines.", show_default=False, rich_help_panel=_ANSWERS),
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
        typer.Option(help="Of the answers that are judged: 0 for greedy decoding.", rich_help_panel=_ANSWERS),
    ] = 0.0,
    seed: Annotated[
        int, typer.Option(min=0, help="What answers and resamples are drawn by.", rich_help_panel=_ANSWERS)
    ] = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Keep answers and what was found of them here; by default QUESTIONS.evaluation.jsonl in "
            "this folder. More methods later go on with them.",
            show_default=False,
            rich_help_panel=_REPORT,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--overwrite",
            help="Go on with the answers that are kept already, or start afresh.",
            rich_help_panel=_REPORT,
        ),
    ] = True,
    report: Annotated[
        list[Path] | None,
        typer.Option(
            help="Write a report here: a page (.html) or Markdown (.md). Can be given again.",
            show_default=False,
            rich_help_panel=_REPORT,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare methods of telling right from wrong answers: how well each does, and what it costs.

    The model answers the questions and a judge labels the answers. They are kept as they come, with all that
    the methods go by: the same command again goes on where it was interrupted.

    Exit status: 0 if every line counted, 2 if lines were wrong, 1 if something else failed. The figures are
    of the others all the same.
    """
    from guardrail.calibration.profile import read_profile
    from guardrail.evaluation.compare import compare, estimate_all
    from guardrail.evaluation.datasets import open_questions
    from guardrail.evaluation.requirements import EvaluationOptions, needs_of
    from guardrail.evaluation.stored_answers import REMEDY, collect_answers, default_token, stored_answers
    from guardrail.labelling.judges import as_judge
    from guardrail.labelling.questions import parse_questions
    from guardrail.models.files.resolve import is_newer
    from guardrail.reports.comparison_report import Setting
    from guardrail.reports.html import write_comparison
    from guardrail.utils.record_store import RecordStore

    reports = list(dict.fromkeys(report or ()))
    decided = as_judge(judge)
    known = read_profile(profile) if profile is not None else None
    names = methods or ["one_pass"]
    # What is named wrongly is said before a model is opened.
    _methods(names, known, nli, cross_encoder)
    options = EvaluationOptions(
        sampling=Sampling(
            max_tokens,
            temperature,
            seed=seed if temperature else None,
            max_reasoning_tokens=max_reasoning_tokens,
        ),
        system=system,
        batch_size=batch_size,
        samples=samples,
        chat_template_kwargs=parse_chat_template_kwargs(chat_template_kwargs),
    )
    source = open_questions(questions, limit)
    stored = output or Path(f"{source.stem}.evaluation.jsonl")
    _check_destinations([stored, *reports], source, reports)
    parsed = parse_questions(source.lines, judge_needs_answers=decided.needs_answers)
    notes = _notes_on(known, profile, source, parsed, options.generation)
    answering = ModelReference.parse(model)
    with RecordStore(stored, REMEDY) as store, progress_bar() as progress:
        kept = stored_answers(store, parsed) if resume else {}
        opened = cache(
            lambda: _open(model, device, dtype, quantization, chat_template_kwargs, known, progress)
        )
        token = default_token(kept, lambda: _token_of(opened()))
        chosen = _methods(names, known, nli, cross_encoder, token)
        needs = needs_of(chosen, options, token)
        collected = collect_answers(
            parsed,
            decided,
            store,
            kept,
            opened,
            needs,
            options,
            model_name=str(answering),
            recheck=resume and (asks_otherwise(dtype, quantization) or is_newer(answering, stored)),
            progress=progress,
        )
    tell(collected, stored)
    made = collected.records[0].maker
    if known is not None:
        _check_profile(known, made["model"])
    with progress_bar() as progress:
        estimated = estimate_all(chosen, collected.records, progress)
        comparison = compare(estimated, collected.records, reference=reference, seed=seed, progress=progress)
    setting = Setting(
        questions=source.title,
        model=made["model"],
        generation=made["generation"],
        samples=needs.maker(made["model"])["samples"],
        semantic_token=token,
        judge=collected.judge,
        unlabelled=len(collected.records) - len(comparison.correct),
        machine=machine_of(collected),
        notes=notes,
    )
    for path in reports:
        write_comparison(comparison, setting, path)
    if as_json:
        print_json(summary(comparison, setting, collected, stored, reports))
    else:
        print_evaluation(comparison, setting, stored, reports)
    if collected.exit_status:
        raise typer.Exit(collected.exit_status)


def _methods(
    names: "Sequence[str]",
    profile: "Profile | None",
    nli: str | None,
    cross_encoder: str | None,
    token: int | None = None,
) -> "Sequence[Method]":
    from guardrail.evaluation.method_registry import confidence_method, methods_named
    from guardrail.evaluation.sampling_methods import check_available, sampled_methods

    sampled = sampled_methods(nli=nli, cross_encoder=cross_encoder)
    confidence = confidence_method(profile) if profile is not None else None
    chosen = methods_named(names, sampled, confidence, token)
    for method in chosen:
        if method.name in sampled:
            check_available(method)
    return chosen


def _open(
    name: str,
    device: str,
    dtype: str,
    quantization: Literal["8bit", "4bit"] | None,
    chat_template_kwargs: str | None,
    profile: "Profile | None",
    progress: "ProgressCallback",
) -> "LocalModel":
    from guardrail.models.fingerprint import fingerprint_model

    opened = open_model(name, device, dtype, quantization, progress, chat_template_kwargs)
    if profile is not None:
        _check_profile(profile, fingerprint_model(opened).as_plain())
    return opened


def _token_of(model: "LocalModel") -> int | None:
    from guardrail.scoring.options import ScoringOptions
    from guardrail.scoring.semantic_tokens import with_known_token

    return with_known_token(ScoringOptions(), model).semantic_token


def _check_profile(profile: "Profile", model: "Mapping[str, Any]") -> None:
    """Make sure, before the model answers, that the profile is of this model."""
    from guardrail.models.fingerprint import ModelFingerprint

    profile.check(ModelFingerprint(**model), profile.scorer)


def _notes_on(
    profile: "Profile | None",
    path: Path | None,
    source: "QuestionSource",
    questions: "Questions",
    generation: dict[str, Any],
) -> list[str]:
    shapes = [f"What is right, by the lines: {questions.shapes}."] if questions.shapes else []
    if profile is None or path is None:
        return shapes
    from guardrail.evaluation.method_registry import (
        generation_notes,
        refuse_known_questions,
        refuse_others_answers,
    )

    refuse_others_answers(profile, questions.usable)
    unsure = refuse_known_questions(profile, path, source, questions.usable)
    return [*shapes, *generation_notes(profile, generation), *([unsure] if unsure else [])]


def _check_destinations(paths: list[Path], source: "QuestionSource", reports: list[Path]) -> None:
    from guardrail.reports.html import check_report_path
    from guardrail.utils.files import check_destination

    for path in reports:
        check_report_path(path)
    if len({path.absolute() for path in paths}) < len(paths):
        raise OptionError("Results and reports need a file each: two of them are the same.")
    for path in paths:
        check_destination(path, source.path)
