"""``guardrail queue``: what waits for a person, and what the person says."""

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from guardrail.cli.common import AsJson, print_file, print_json, readable, results, say
from guardrail.errors import GuardrailError, OptionError
from guardrail.utils.files import write_whole
from guardrail.utils.json_lines import as_json as json_line
from guardrail.utils.text import escaped

if TYPE_CHECKING:
    from guardrail.escalation.case import Item, ReviewLabel
    from guardrail.escalation.queue import HumanQueue

__all__ = ["app"]

app = typer.Typer(
    help="Answers that wait for a person: list, show, answer, export as labels.", no_args_is_help=True
)

Where = Annotated[
    str,
    typer.Option("--queue", "-q", help="The queue, as in the policy: sqlite:///FILE, or the file alone."),
]
Ticket = Annotated[
    str,
    typer.Argument(help="The ticket, or its beginning.", show_default=False, callback=readable),
]
_DEFAULT = "sqlite:///guardrail.db"
_SHOWN_OF_QUESTION = 60


@app.command("list")
def list_items(
    queue: Where = _DEFAULT,
    status: Annotated[Literal["waiting", "answered", "all"], typer.Option(help="Which of them.")] = "waiting",
    as_json: AsJson = False,
) -> None:
    """List what waits, in the order in which it came."""
    items = _open(queue).items(None if status == "all" else status)
    if as_json:
        print_json([item.as_plain() for item in items], indent=2)
        return
    if not items:
        say("Nothing is waiting." if status == "waiting" else "Nothing is there.")
        return
    # No table: however narrow the terminal is, a ticket stands whole in a line of its own.
    for item in items:
        state = item.status if item.answer is None else item.answer.verdict
        created = item.created[:19].replace("T", " ")
        said = "cannot be read" if item.problem else _shortened(_question(item))
        say(item.ticket)
        say(f"    {created}  {state}  {_percent(item.case.confidence)}")
        say(f"    {said}")


@app.command()
def show(ticket: Ticket, queue: Where = _DEFAULT, as_json: AsJson = False) -> None:
    """Show one of them: what was asked, what the model answered, and why it was not shown."""
    item = _open(queue).get(ticket)
    if as_json:
        print_json(item.as_plain())
    else:
        _print_item(item)


@app.command()
def answer(
    ticket: Ticket,
    approve: Annotated[bool, typer.Option("--approve", help="The model's answer is right.")] = False,
    edit: Annotated[
        str | None,
        typer.Option(
            "--edit",
            help="The model's answer is not right; this is.",
            metavar="TEXT",
            show_default=False,
            callback=readable,
        ),
    ] = None,
    reject: Annotated[bool, typer.Option("--reject", help="No answer is to be given.")] = False,
    by: Annotated[
        str | None, typer.Option(help="Who says so; by default, who is logged in.", callback=readable)
    ] = None,
    queue: Where = _DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Say what becomes of one of them. The first answer stands."""
    chosen: list[ReviewLabel] = []
    if approve:
        chosen.append("approve")
    if edit is not None:
        chosen.append("edit")
    if reject:
        chosen.append("reject")
    if len(chosen) != 1:
        raise OptionError("Give one of --approve, --edit TEXT and --reject.")
    item = _open(queue).answer(ticket, chosen[0], edit, by=by or _user())
    if as_json:
        print_json(item.as_plain())
    elif item.answer is not None:
        say(f"{item.ticket}: {item.answer.verdict}, by {item.answer.by}")


@app.command()
def export(
    queue: Where = _DEFAULT,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the lines here.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print what people said as labelled answers, one JSON object a line, for guardrail calibrate.

    They are answers that a policy did not let through. A profile made of them alone would not hold for all
    traffic: add answers that were not chosen.
    """
    from guardrail.escalation.case import labels

    answered = _open(queue).items("answered")
    unread = [item for item in answered if item.problem]
    for item in unread:
        say(f"Left out: {item.problem}", err=True)
    lines = [json_line(label) for label in labels(answered)]
    text = "".join(f"{line}\n" for line in lines)
    if output is None:
        print_file(escaped(text))
        return
    write_whole(output, text, GuardrailError)
    if as_json:
        print_json({"labels": len(lines), "unread": len(unread), "output": str(output)})
    else:
        say(f"{len(lines):,} labelled answers in {output}")


def _open(queue: str) -> "HumanQueue":
    from guardrail.escalation.queue import HumanQueue

    return HumanQueue(queue if "://" in queue else f"sqlite:///{queue}")


def _print_item(item: "Item") -> None:
    table = Table(show_header=False, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    case = item.case
    rows = [("Ticket", item.ticket), ("Created", item.created)]
    rows += [(str(message.get("role", "?")), str(message.get("content", ""))) for message in case.messages]
    rows += [("draft", case.draft), ("Confidence", _percent(case.confidence))]
    rows += [("Rule", f"{case.rule}: {case.reason}"), ("Model", case.answered_by or case.model)]
    if case.answered_by not in ("", case.model):
        rows.append(("Scored by", case.model))
    said = item.answer
    if said is not None:
        rows.append(("Answer", f"{said.verdict}, by {said.by} at {said.at}"))
        if said.text is not None:
            rows.append(("", said.text))
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    results().print(table)


def _question(item: "Item") -> str:
    asked = [str(message.get("content", "")) for message in item.case.messages]
    return asked[-1] if asked else ""


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_OF_QUESTION else f"{line[: _SHOWN_OF_QUESTION - 1]}…"


def _percent(confidence: float | None) -> str:
    return "-" if confidence is None else f"{confidence:.0%}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise OptionError("It is not known who is logged in: give --by NAME.") from error
