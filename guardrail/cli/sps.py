"""``guardrail sps``: find the token of a model's prompts that holds their meaning."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from guardrail.cli.common import (
    AsJson,
    Device,
    Dtype,
    Model,
    Quantization,
    open_model,
    print_failures,
    print_json,
    progress_bar,
    readable,
    results,
)
from guardrail.errors import OptionError, RecordError
from guardrail.models.files.reference import DEFAULT_MODEL

if TYPE_CHECKING:
    from guardrail.scoring.semantic_scan import Choice, Scan
    from guardrail.scoring.semantic_tokens import KnownToken

_PARAPHRASES = "Paraphrases"


def sps(
    file: Annotated[
        Path | None,
        typer.Argument(
            help='JSON Lines: {"query": "…", "paraphrases": ["…", "…"]}, or only questions together with '
            "--paraphrases.",
            metavar="PARAPHRASES.jsonl",
            show_default=False,
        ),
    ] = None,
    model: Model = DEFAULT_MODEL,
    device: Device = "auto",
    dtype: Dtype = "auto",
    quantization: Quantization = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Prompts that the model reads at once.", rich_help_panel="Model")
    ] = 16,
    tokens: Annotated[int, typer.Option(help="Compare this many positions at the end of a prompt.")] = 10,
    any_position: Annotated[
        bool,
        typer.Option(
            "--any-position",
            help="Also allow a position in the user's text, where every prompt has a different word.",
        ),
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, help="Use only this many lines.", show_default=False, rich_help_panel=_PARAPHRASES
        ),
    ] = None,
    paraphrases: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Paraphrases to use for each question; where it has none, the model writes them.",
            show_default=False,
            rich_help_panel=_PARAPHRASES,
        ),
    ] = None,
    paraphrase_with: Annotated[
        str | None,
        typer.Option(
            help="Chat model that writes them, as LangChain names it (provider:model), instead of the model "
            "that is scanned.",
            metavar="NAME",
            callback=readable,
            show_default=False,
            rich_help_panel=_PARAPHRASES,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    plot: Annotated[
        Path | None,
        typer.Option(help="Write the heat map to this file (.png, .svg or .pdf).", show_default=False),
    ] = None,
    save: Annotated[
        bool,
        typer.Option("--save", help="Score this model at the chosen token from now on."),
    ] = False,
    known: Annotated[
        bool, typer.Option("--known", help="List the tokens that are already known, without a scan.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Find the semantics-preserving token: where paraphrases agree and different questions do not.

    Computes the Semantic Preservation Score of every layer at the last positions of the prompt, and chooses
    the position where it is highest in the upper half of the layers.

    Exit status: 0 if every line was used, 2 if some lines were wrong; the others are scanned all the same.
    """
    if known:
        _print_known(as_json=as_json)
        return
    if file is None:
        raise OptionError("Give a file of paraphrases, or --known.")
    from guardrail.scoring.batches import Failure
    from guardrail.scoring.paraphrases import read_paraphrases, take

    found = read_paraphrases(file, limit)
    queries, left_out = found.queries, found.left_out
    if paraphrase_with and not paraphrases:
        raise OptionError("--paraphrase-with needs --paraphrases: how many should it write?")
    if not paraphrases and not any(query.paraphrases for query in queries):
        raise OptionError(f"{file} has no paraphrases. Let a model write them: --paraphrases 5.")
    if plot is not None:
        from guardrail.reports.formatting import check_picture
        from guardrail.utils.files import check_destination

        check_picture(plot)
        check_destination(plot, file)
    if save:
        from guardrail.scoring.semantic_tokens import entry_of, save_known, saved_tokens

        # A damaged file is reported before the scan, not after it.
        saved_tokens()
    with progress_bar() as progress:
        local = open_model(model, device, dtype, quantization, progress)
        from guardrail.scoring.paraphrases import by_local_model, open_paraphraser, paraphrase
        from guardrail.scoring.semantic_scan import readable, scan

        queries, unreadable = readable(local, queries)
        failures = [
            *found.refused,
            *(Failure(found.lines[query], str(error), error.exit_status) for query, error in unreadable),
        ]
        print_failures(sorted(failures))
        if paraphrases:
            queries = take(queries, paraphrases)
            writer = (
                open_paraphraser(paraphrase_with) if paraphrase_with else by_local_model(local, seed=seed)
            )
            made = paraphrase(queries, paraphrases, writer, progress)
            queries, left_out = made.queries, left_out + made.left_out
        done = scan(local, queries, tokens, batch_size=batch_size, seed=seed, progress=progress)
    choice = done.overall if any_position else done.choice
    if plot is not None:
        from guardrail.reports.charts import write_heat_map

        write_heat_map(done, choice, plot)
    saved: Path | None = None
    if save:
        saved = save_known(entry_of(local, done, choice, file))
    if as_json:
        told = [{"line": failure.line, "error": failure.reason} for failure in sorted(failures)]
        found_out = {**done.as_plain(choice), "left_out": left_out, "saved": str(saved) if saved else None}
        print_json({**found_out, "failures": told})
    else:
        _print_scan(done, choice)
        _print_notes(done, choice, len(found.queries), left_out, [path for path in (plot, saved) if path])
    if failures:
        raise typer.Exit(RecordError.exit_status)


def _print_scan(scan: "Scan", choice: "Choice") -> None:
    from guardrail.reports.formatting import token_label

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for header in ("Position", "SPS, upper half", "all layers", "chosen in"):
        table.add_column(header, justify="right", header_style="bold")
    table.add_column("Token", header_style="bold")
    everywhere = scan.scores.mean(axis=0)
    for at, position in enumerate(scan.positions):
        wins = choice.wins.get(position)
        table.add_row(
            str(position),
            f"{scan.upper_means[at]:.4f}",
            f"{everywhere[at]:.4f}",
            "" if wins is None else f"{wins:.1%}",
            Text(token_label(scan.tokens[at])),
            style="bold" if position == choice.position else "",
        )
    console = results()
    console.print(f"{scan.model}, {scan.queries:,} queries in {scan.prompts:,} wordings", markup=False)
    console.print()
    console.print(table)
    console.print()


def _print_notes(scan: "Scan", choice: "Choice", given: int, left_out: int, written: Sequence[Path]) -> None:
    from guardrail.reports.formatting import counted
    from guardrail.scoring.semantic_scan import LEVEL

    token = scan.tokens[choice.position]
    lines = [
        f"t* = {choice.position} ({'not the same token in every prompt' if token is None else repr(token)}), "
        f"{choice.margin:.4f} ahead of {choice.runner_up} (95 % interval {choice.low:.4f} to "
        f"{choice.high:.4f}). Another position won in {1 - choice.wins[choice.position]:.1%} of the samples "
        "of queries.",
    ]
    if choice.wins[choice.position] < LEVEL:
        lines.append("That is not a clear choice: scan more queries, or compare scores at both positions.")
    if choice.position != scan.overall.position:
        lines.append(
            f"Position {scan.overall.position}, in the user's text, scores higher: there every prompt has a "
            "different word, and wordings that end alike are alike. --any-position includes it."
        )
    if choice.position != scan.rule:
        lines.append(f"The rule for models that were never scanned gives {scan.rule}.")
    if left_out:
        lines.append(f"{counted(left_out, 'paraphrase')} left out: no different wording of the question.")
    if given > scan.queries:
        lines.append(f"{given - scan.queries:,} queries without a paraphrase were skipped.")
    lines += [f"Written: {path}" for path in written]
    lines.append(f"To score there: --semantic-token {choice.position}. Took {scan.seconds:.1f} s.")
    console = results()
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _print_known(*, as_json: bool) -> None:
    from guardrail.scoring.semantic_tokens import saved_tokens, shipped_tokens

    entries = [("saved", one) for one in saved_tokens()] + [("shipped", one) for one in shipped_tokens()]
    if as_json:
        print_json({"known": [{"from": origin, **one.model_dump(mode="json")} for origin, one in entries]})
        return
    console = results()
    for origin, one in entries:
        console.print(f"{one.name}: {_known(one)}", markup=False, soft_wrap=True)
        console.print(f"    {origin}; {one.source}", markup=False, soft_wrap=True, style="dim")
        if one.note:
            console.print(f"    {one.note}", markup=False, soft_wrap=True, style="dim")


def _known(entry: "KnownToken") -> str:
    from guardrail.reports.formatting import token_label

    return f"{entry.position} ({token_label(entry.token)})"
