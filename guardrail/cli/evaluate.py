"""``guardrail evaluate``: which method tells right from wrong answers, on one's own model and questions."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    SystemMessage,
    asks_otherwise,
    open_model,
    print_collected,
    print_json,
    progress_bar,
    readable,
    results,
)
from guardrail.models.chat_template import parse_chat_template_kwargs
from guardrail.models.files.reference import DEFAULT_MODEL
from guardrail.models.sampling import Sampling

if TYPE_CHECKING:
    from guardrail.evaluation.compare import Comparison
    from guardrail.evaluation.evaluate import EvaluationPlan, FoundAnswers
    from guardrail.evaluation.evaluated_answers import EvaluatedAnswer
    from guardrail.labelling.collection import Collected
    from guardrail.reports.comparison_report import Setting

__all__ = ["evaluate", "print_evaluation", "setting_of", "summary"]


def summary(
    comparison: "Comparison",
    setting: "Setting",
    collected: "Collected[EvaluatedAnswer]",
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


_ANSWERS = "Answers"
_METHODS = "Methods"
_REPORT = "Report"


_Questions = Annotated[
    str,
    typer.Argument(
        help="A file with one JSON object a line, a question with accepted answers or a response to be "
        "judged; or sciq, triviaqa, truthfulqa, nq_open.",
        metavar="QUESTIONS.jsonl|NAME",
        show_default=False,
    ),
]
_Methods = Annotated[
    list[str] | None,
    typer.Option(
        help="Methods or groups of them (one_pass, ablations, sampling, all), with commas between. A "
        "gradient's method takes arguments: hybridgrad[semantic_token=-1,reduction=mean]. By default "
        "one_pass.",
        show_default=False,
        rich_help_panel=_METHODS,
    ),
]
_Samples = Annotated[
    int,
    typer.Option(min=2, help="Answers drawn for methods that need others.", rich_help_panel=_METHODS),
]
_Nli = Annotated[
    str | None,
    typer.Option(
        help="Model that tells whether one text follows from another, for methods that compare meanings.",
        show_default=False,
        rich_help_panel=_METHODS,
    ),
]
_CrossEncoder = Annotated[
    str | None,
    typer.Option(
        help="Model that tells how alike two texts are, likewise.",
        show_default=False,
        rich_help_panel=_METHODS,
    ),
]
_Profile = Annotated[
    Path | None,
    typer.Option(
        help="Add this profile's confidence as the method confidence. It must not be made of these "
        "questions.",
        show_default=False,
        rich_help_panel=_METHODS,
    ),
]
_Reference = Annotated[
    str | None,
    typer.Option(
        help="The method that differences are to; by default hybridgrad.",
        show_default=False,
        rich_help_panel=_METHODS,
    ),
]
_Judge = Annotated[
    str,
    typer.Option(
        help="Who says what is right: exact, contains, f1[:THRESHOLD], squad-exact, squad-f1[:THRESHOLD], "
        "embedding[:MODEL[:THRESHOLD]], "
        "chat:PROVIDER:MODEL, or module:function.",
        callback=readable,
        rich_help_panel=_ANSWERS,
    ),
]
_Temperature = Annotated[
    float,
    typer.Option(help="Of the answers that are judged: 0 for greedy decoding.", rich_help_panel=_ANSWERS),
]
_Seed = Annotated[
    int, typer.Option(min=0, help="What answers and resamples are drawn by.", rich_help_panel=_ANSWERS)
]
_Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Keep answers and what was found of them here; by default QUESTIONS.evaluation.jsonl in "
        "this folder. More methods later go on with them.",
        show_default=False,
        rich_help_panel=_REPORT,
    ),
]
_Resume = Annotated[
    bool,
    typer.Option(
        "--resume/--overwrite",
        help="Go on with the answers that are kept already, or start afresh.",
        rich_help_panel=_REPORT,
    ),
]
_Report = Annotated[
    list[Path] | None,
    typer.Option(
        help="Write a report here: a page (.html) or Markdown (.md). Can be given again.",
        show_default=False,
        rich_help_panel=_REPORT,
    ),
]


def evaluate(
    questions: _Questions,
    model: Model = DEFAULT_MODEL,
    device: Device = "auto",
    dtype: Dtype = "auto",
    quantization: Quantization = None,
    chat_template_kwargs: ChatTemplateKwargs = None,
    batch_size: QuestionBatchSize = 16,
    methods: _Methods = None,
    samples: _Samples = 10,
    nli: _Nli = None,
    cross_encoder: _CrossEncoder = None,
    profile: _Profile = None,
    reference: _Reference = None,
    judge: _Judge = "contains",
    limit: Limit = None,
    system: SystemMessage = None,
    max_tokens: MaxTokens = 64,
    max_reasoning_tokens: MaxReasoningTokens = None,
    temperature: _Temperature = 0.0,
    seed: _Seed = 0,
    output: _Output = None,
    resume: _Resume = True,
    report: _Report = None,
    as_json: AsJson = False,
) -> None:
    """Compare methods of telling right from wrong answers: how well each does, and what it costs.

    The model answers the questions and a judge labels the answers. They are kept as they come, with all that
    the methods go by: the same command again goes on where it was interrupted.

    Exit status: 0 if every line counted, 2 if lines were wrong, 1 if something else failed. The figures are
    of the others all the same.
    """
    from guardrail.evaluation.evaluate import EvaluationRequest, plan_evaluation
    from guardrail.evaluation.requirements import EvaluationOptions
    from guardrail.reports.comparison_report import check_report_path, write_comparison

    reports = list(dict.fromkeys(report or ()))
    for path in reports:
        check_report_path(path)
    plan = plan_evaluation(
        EvaluationRequest(
            questions=questions,
            model=model,
            answering=EvaluationOptions(
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
            ),
            methods=methods or ["one_pass"],
            nli=nli,
            cross_encoder=cross_encoder,
            profile=profile,
            reference=reference,
            judge=judge,
            limit=limit,
            output=output,
            reports=reports,
            seed=seed,
            resume=resume,
            recheck=asks_otherwise(dtype, quantization),
        )
    )
    with progress_bar() as progress:
        found = plan.collect(
            lambda: open_model(model, device, dtype, quantization, progress, chat_template_kwargs), progress
        )
    print_collected(found.answers, plan.stored, "the same command again has them judged again")
    with progress_bar() as progress:
        comparison = plan.compare(found, progress)
    setting = setting_of(plan, found, comparison)
    for path in reports:
        write_comparison(comparison, setting, path)
    if as_json:
        print_json(summary(comparison, setting, found.answers, plan.stored, reports))
    else:
        print_evaluation(comparison, setting, plan.stored, reports)
    if found.answers.exit_status:
        raise typer.Exit(found.answers.exit_status)


def setting_of(plan: "EvaluationPlan", found: "FoundAnswers", comparison: "Comparison") -> "Setting":
    """What the answers of a comparison were made with, for its report."""
    from guardrail.reports.comparison_report import Setting

    records = found.answers.records
    made = records[0].provenance
    return Setting(
        questions=plan.source.title,
        model=made.model.as_plain(),
        generation=made.generation,
        samples=found.needs.provenance(made.model).samples,
        semantic_token=found.needs.semantic_token,
        judge=found.answers.judge,
        unlabelled=len(records) - len(comparison.correct),
        machine="; ".join(dict.fromkeys(record.costs.machine for record in records)),
        notes=plan.notes,
    )
