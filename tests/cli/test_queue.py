import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from guardrail.cli import queue as queue_command
from guardrail.cli.main import _Commands
from guardrail.escalation.case import Case
from guardrail.escalation.queue import HumanQueue
from tests.support.cases import case_of

app = typer.Typer(cls=_Commands)
app.add_typer(queue_command.app, name="queue")

TICKETS = ["abcd1" + "0" * 27, "ef012" + "0" * 27]


@pytest.fixture
def queue(tmp_path):
    queue = HumanQueue(f"sqlite:///{tmp_path}/q.db")
    for ticket in TICKETS:
        queue.put(case_of(id=ticket))
    return queue


@pytest.fixture
def run(queue, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def invoke(*arguments, where=queue.url):
        return CliRunner().invoke(
            app, ["queue", *map(str, arguments), "--queue", where], env={"COLUMNS": "140"}
        )

    return invoke


def test_what_waits_is_listed(run, queue):
    queue.answer(TICKETS[1], "reject", by="ada")
    listed = run("list").stdout
    assert TICKETS[0][:8] in listed
    assert TICKETS[1][:8] not in listed
    assert "31%" in listed
    assert "Who wrote Faust?" in listed
    everything = json.loads(run("list", "--status", "all", "--json").stdout)
    assert [item["status"] for item in everything] == ["waiting", "answered"]
    assert everything[0]["draft"] == "Schiller."
    queue.answer(TICKETS[0], "reject", by="ada")
    assert run("list").stdout == "Nothing is waiting.\n"


def test_one_is_shown_with_all_a_person_needs(run):
    text = run("show", "abcd").stdout
    for part in (TICKETS[0], "Who wrote Faust?", "Schiller.", "unsure: confidence is 0.31, below 0.5"):
        assert part in text
    assert json.loads(run("show", "abcd", "--json").stdout)["ticket"] == TICKETS[0]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [(["--approve"], "Schiller."), (["--edit", "Goethe."], "Goethe."), (["--reject"], None)],
)
def test_a_person_answers(run, queue, arguments, shown):
    result = run("answer", "abcd1", *arguments, "--by", "ada")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{TICKETS[0]}: {arguments[0][2:]}, by ada")
    assert queue.get(TICKETS[0]).text == shown
    again = run("answer", "abcd1", *arguments, "--by", "ada", "--json")
    assert json.loads(again.stdout)["answer"]["by"] == "ada"
    assert "by ada" in run("show", "abcd1").stdout


def test_a_second_answer_is_refused_and_says_who_was_first(run):
    run("answer", "abcd1", "--approve", "--by", "ada")
    result = run("answer", "abcd1", "--reject", "--by", "bob")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "answered before, by ada" in result.stderr
    failed = run("answer", "abcd1", "--reject", "--by", "bob", "--json")
    assert json.loads(failed.stdout)["error"]["type"] == "EscalationError"


@pytest.mark.parametrize(
    "arguments",
    [
        ("answer", "abcd1"),
        ("answer", "abcd1", "--approve", "--reject"),
        ("answer", "abcd1", "--edit", ""),
        ("answer", "nobody", "--approve"),
        ("show", "abc"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_status_2(run, queue, arguments):
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert len(queue.items("waiting")) == 2


def test_who_answers_is_who_is_logged_in(run, queue, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "cyd")
    run("answer", "abcd1", "--approve")
    assert queue.get("abcd1").answer.by == "cyd"


def test_labels_are_lines_that_calibrate_reads(run, queue, tmp_path):
    from guardrail.labelling.questions import parse_questions

    run("answer", "abcd1", "--approve", "--by", "ada")
    run("answer", "ef012", "--edit", "Goethe.", "--by", "ada")
    printed = run("export").stdout.splitlines()
    questions = parse_questions(printed[:1])
    assert questions.refused == []
    assert (questions.usable[0].response, questions.usable[0].correct) == ("Schiller.", True)
    assert [json.loads(line)["correct"] for line in printed] == [True, False]
    output = tmp_path / "labels.jsonl"
    assert json.loads(run("export", "-o", output, "--json").stdout)["labels"] == 2
    assert output.read_text().splitlines() == printed
    assert "2 labelled answers" in run("export", "-o", output).stdout
    assert run("export", "-o", tmp_path / "missing" / "labels.jsonl").exit_code == 1


def test_a_queue_may_be_named_by_its_file(run, queue):
    assert run("show", "abcd", where=str(queue.path)).exit_code == 0


def test_a_queue_that_is_not_there_is_said_so(run, tmp_path):
    result = run("list", where=f"sqlite:///{tmp_path}/none.db")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no queue" in result.stderr


def test_what_was_asked_gives_no_orders_to_the_terminal(run, queue):
    orders = [{"role": "user\x1b", "content": "\x1b[2J[red]x[/red]" + "long " * 40}]
    queue.put(case_of(id="f" * 32, messages=orders, draft="\x1b[2J"))
    for output in (run("list").stdout, run("show", "ffff").stdout):
        assert "\x1b" not in output
        assert "[red]x[/red]" in output


def test_the_commands_load_no_torch():
    code = (
        "import sys\n"
        "from guardrail.cli import queue\n"
        "from guardrail.escalation import routing\n"
        "print(sorted({'torch', 'numpy', 'transformers', 'langchain'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("columns", ["20", "40", "80"])
def test_every_ticket_is_whole_however_narrow_the_terminal_and_one_broken_record_keeps_none_back(
    tmp_path, monkeypatch, columns
):
    import sqlite3

    monkeypatch.setenv("COLUMNS", columns)
    tickets = [f"{at}0123456789abcdef0123456789abcdef"[:32] for at in range(3)]
    queue = HumanQueue(f"sqlite:///{tmp_path}/q.db")
    for ticket in tickets:
        queue.put(
            Case(
                id=ticket,
                messages=[{"role": "user", "content": "Why? " * 40}],
                draft="d",
                rule="r",
                reason="",
            )
        )
    with sqlite3.connect(tmp_path / "q.db") as connection:
        connection.execute("UPDATE cases SET record = '{' WHERE ticket = ?", (tickets[1],))
    result = CliRunner().invoke(app, ["queue", "list", "--queue", str(tmp_path / "q.db")])
    assert result.exit_code == 0
    assert [line for line in result.output.splitlines() if line in tickets] == tickets
    assert result.output.count("cannot be read") == 1
    shown = CliRunner().invoke(app, ["queue", "show", tickets[1], "--queue", str(tmp_path / "q.db")])
    assert shown.exit_code == 1
    assert "cannot be read" in shown.output


def test_an_export_says_which_record_it_could_not_read(run, queue, tmp_path):
    import sqlite3

    for ticket in TICKETS:
        run("answer", ticket, "--approve", "--by", "ada")
    with sqlite3.connect(queue.path) as connection:
        connection.execute("UPDATE cases SET record = '{' WHERE ticket = ?", (TICKETS[0],))
    result = run("export")
    assert len(result.stdout.splitlines()) == 1
    assert f"Left out: The case {TICKETS[0]}" in result.stderr
    told = json.loads(run("export", "-o", tmp_path / "l.jsonl", "--json").stdout)
    assert (told["labels"], told["unread"]) == (1, 1)
    listed = json.loads(run("list", "--status", "all", "--json").stdout)
    assert ["problem" in item for item in listed] == [True, False]
