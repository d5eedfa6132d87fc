"""``guardrail score``: a file of prompts and responses, scored."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from guardrail.cli.common import (
    AsJson,
    ChatTemplateKwargs,
    Device,
    Dtype,
    Model,
    Quantization,
    Reduction,
    SemanticToken,
    open_model,
    print_failures,
    print_json,
    progress_bar,
    results,
    stdout_is_terminal,
)
from guardrail.models.files.reference import DEFAULT_MODEL
from guardrail.scoring.options import ScoringOptions

if TYPE_CHECKING:
    from guardrail.scoring.records import Tally

_ABLATIONS = "Ablations"


_File = Annotated[
    Path,
    typer.Argument(
        help="One JSON object a line: messages and response, prompt and response, or prompt_ids and "
        "response_ids. Other fields are passed through.",
        metavar="FILE.jsonl",
        show_default=False,
    ),
]
_BatchSize = Annotated[
    int, typer.Option(min=1, help="How many lines the model reads at once.", rich_help_panel="Model")
]
_Norm = Annotated[
    Literal["l1", "l2"],
    typer.Option(
        help="Size of a gradient: mean absolute value or root mean square.", rich_help_panel=_ABLATIONS
    ),
]
_Layers = Annotated[
    Literal["upper", "lower", "last", "all"],
    typer.Option(help="Decoder layers that SemGrad looks at.", rich_help_panel=_ABLATIONS),
]
_NoEntropyWeight = Annotated[
    bool,
    typer.Option(
        "--no-entropy-weight",
        help="Do not weigh the tokens' losses by their entropies.",
        rich_help_panel=_ABLATIONS,
    ),
]
_TiedEmbedding = Annotated[
    bool,
    typer.Option(
        "--tied-embedding",
        help="Let ParaGrad collect the input-embedding path of a tied head too, as the public code does. "
        "Slow.",
        rich_help_panel=_ABLATIONS,
    ),
]
_Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Write the lines here. The same command again goes on where it was interrupted.",
        show_default=False,
    ),
]
_Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Start afresh, whatever is in the output file.")
]


def score(
    file: _File,
    model: Model = DEFAULT_MODEL,
    device: Device = "auto",
    dtype: Dtype = "auto",
    quantization: Quantization = None,
    chat_template_kwargs: ChatTemplateKwargs = None,
    batch_size: _BatchSize = 8,
    semantic_token: SemanticToken = None,
    reduction: Reduction = "sum",
    norm: _Norm = "l1",
    layers: _Layers = "upper",
    no_entropy_weight: _NoEntropyWeight = False,
    tied_embedding: _TiedEmbedding = False,
    output: _Output = None,
    overwrite: _Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Score responses that the model gave before: a line out for each line in, in order.

    A line that cannot be scored gets an error field and no numbers.

    Exit status: 0 if all were scored, 2 if only lines were wrong, 1 if scoring failed.
    """
    from guardrail.scoring.records import ScoreRequest, score_file

    request = ScoreRequest(
        file=file,
        options=ScoringOptions(
            semantic_token=semantic_token,
            reduction=reduction,
            norm=norm,
            layers=layers,
            entropy_weight=not no_entropy_weight,
            include_tied_embedding=tied_embedding,
        ),
        batch_size=batch_size,
        output=output,
        overwrite=overwrite,
    )
    with progress_bar(quiet=output is None and stdout_is_terminal()) as progress:
        tally = score_file(
            request,
            lambda: open_model(model, device, dtype, quantization, progress, chat_template_kwargs),
            print_json if output is None else None,
            progress,
        )
    print_failures(tally.failures, f"of {tally.lines:,} lines were not scored", "see their error fields")
    if output is not None and as_json:
        print_json({**tally.summary(), "model": tally.model, "output": str(output)})
    elif output is not None:
        _print_summary(tally, output)
    if tally.exit_status:
        raise typer.Exit(tally.exit_status)


def _print_summary(tally: "Tally", output: Path) -> None:
    summary = tally.summary()
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column()
    kept = f", {tally.kept:,} of them by an earlier run" if tally.kept else ""
    table.add_row("Scored", f"{summary['scored']:,} of {tally.lines:,} lines{kept}")
    if tally.failures:
        table.add_row("Not scored", f"{len(tally.failures):,}")
    if spread := summary["hybridgrad"]:
        table.add_row(
            "HybridGrad",
            f"median {spread['median']:.3g}, from {spread['min']:.3g} to {spread['max']:.3g}",
        )
    table.add_row("Model", tally.model)
    console = results()
    console.print(table)
    # Not in the table, which would break a path to fit the terminal.
    console.print(f"Results in {output}", soft_wrap=True, markup=False)
