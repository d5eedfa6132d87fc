"""Whatever files, models and people say, it gives a terminal no orders, and is no line of its own."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from guardrail.calibration.profile import write_profile
from guardrail.cli.common import print_json, results, say
from guardrail.cli.main import app
from guardrail.escalation.queue import HumanQueue
from guardrail.utils.text import escaped, visible, visible_line
from tests.support.cases import case_of
from tests.support.profiles import a_profile

ORDERS = "a\x1b[31mb\x1b]0;title\x07c\x9b2Jd\u202ee\u2066f\rg\x08h\u2028i\x85j"
TICKET = "abcd1" + "0" * 27
# Stands for the folder of a tiny model: the built-in one takes half a minute to say the same.
TINY = "tiny"


def orders_in(text):
    return {one for one in text if unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - set("\n")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Files whose every text, and name, gives orders."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    written = ORDERS.replace("\x85", "")
    policy = {
        "version": 1,
        "name": "odd",
        "description": written,
        "rules": [{"id": "all", "action": "abstain", "message": written}],
    }
    (tmp_path / f"{written}.json").write_text(json.dumps(policy))
    mistaken = {**policy, written: 1, "extends": f"{written}\nok: nothing is wrong"}
    (tmp_path / "mistaken.json").write_text(json.dumps(mistaken))
    case = {"name": written, "given": {written: 1}, "expect": {}}
    (tmp_path / "cases.yaml").write_text(json.dumps([case]))
    (tmp_path / "lines.jsonl").write_text(
        json.dumps({"question": ORDERS, ORDERS: 1, "answers": ORDERS}) + "\n"
    )
    write_profile(a_profile(answered_by="gpt"), tmp_path / "profile.json")
    profile = json.loads((tmp_path / "profile.json").read_text())
    (tmp_path / "odd.json").write_text(json.dumps({**profile, ORDERS: 1, "version": ORDERS}))
    queue = HumanQueue(f"sqlite:///{tmp_path}/queue.db")
    queue.put(
        case_of(
            id=TICKET,
            messages=[{"role": ORDERS, "content": ORDERS}],
            draft=ORDERS,
            reason=ORDERS,
            rule=ORDERS,
            model=ORDERS,
        )
    )
    return tmp_path


QUEUE = ("--queue", "queue.db")
COMMANDS = [
    ("ask", "hello", "--model", ORDERS),
    ("ask", "hello", "--policy", ORDERS),
    ("ask", "hello", "--policy", "mistaken.json"),
    ("score", ORDERS, "--output", "out.jsonl"),
    ("score", "lines.jsonl", "--output", "out.jsonl", "--model", ORDERS),
    ("calibrate", ORDERS, "--output", "p.json"),
    ("calibrate", "lines.jsonl", "--output", "p.json", "--max-tokens", "4", "--model", TINY),
    ("evaluate", ORDERS),
    ("evaluate", "lines.jsonl", "--methods", ORDERS),
    ("demo", "--policy", ORDERS),
    ("sps", ORDERS),
    ("models", "list"),
    ("models", "pull", ORDERS),
    ("models", "path", ORDERS),
    ("policy", "list"),
    ("policy", "check", ORDERS.replace("\x85", "") + ".json", "mistaken.json"),
    ("policy", "check", ORDERS.replace("\x85", "") + ".json", "mistaken.json", "--json"),
    ("policy", "show", ORDERS),
    ("policy", "test", ORDERS.replace("\x85", "") + ".json", "cases.yaml"),
    ("policy", "explain", ORDERS.replace("\x85", "") + ".json", "--confidence", "0.3"),
    ("policy", "explain", ORDERS.replace("\x85", "") + ".json", "--confidence", ORDERS),
    ("policy", "what-if", ORDERS.replace("\x85", "") + ".json", "--profile", ORDERS),
    ("profile", "show", ORDERS),
    ("profile", "show", "odd.json"),
    ("profile", "held-out", "profile.json", ORDERS),
    ("queue", "list", *QUEUE),
    ("queue", "list", *QUEUE, "--json"),
    ("queue", "show", TICKET, *QUEUE),
    ("queue", "show", TICKET, *QUEUE, "--json"),
    ("queue", "show", ORDERS, *QUEUE),
    ("queue", "answer", TICKET, "--reject", "--by", ORDERS, *QUEUE),
    ("queue", "export", *QUEUE),
    (ORDERS,),
    ("policy", ORDERS),
    ("ask", f"--{ORDERS}"),
    (f"--{ORDERS}",),
    ("queue", "list", "--status", ORDERS),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command).replace(ORDERS, "*")[:40])
def test_no_command_hands_orders_on(folder, model_folder, command):
    given = [str(model_folder) if one == TINY else one for one in command]
    ended = CliRunner().invoke(app, given, env={"COLUMNS": "100"})
    assert ended.exception is None or isinstance(ended.exception, SystemExit)
    assert not orders_in(ended.stdout + ended.stderr)
    assert not any(line.startswith("ok: nothing is wrong") for line in ended.output.splitlines())


def test_answered_tickets_are_shown_without_orders_of_whoever_answered(folder):
    HumanQueue(f"sqlite:///{folder}/queue.db").answer(TICKET, "edit", by=ORDERS, text=ORDERS)
    for command in (("list", "--status", "all"), ("show", TICKET), ("export",)):
        ended = CliRunner().invoke(app, ["queue", *command, *QUEUE])
        assert ended.exit_code == 0, ended.output
        assert not orders_in(ended.output)
    exported = json.loads(CliRunner().invoke(app, ["queue", "export", *QUEUE]).stdout.splitlines()[-1])
    assert exported["response"] == ORDERS


@given(st.text())
def test_what_is_printed_has_no_orders(text):
    assert not orders_in(visible(text, ""))
    assert len(visible(text)) == len(text)
    assert "\n" not in visible_line(text)
    assert json.loads(escaped(json.dumps({"a": text}, ensure_ascii=False))) == {"a": text}


@pytest.mark.parametrize("text", ["naïve café", "你好", "👨‍👩‍👧 and é", "می‌خواهم", "1 000 €"])
def test_what_people_write_stays_as_it_is(text):
    assert visible(text) == visible_line(text) == text


def test_a_console_a_line_and_json_are_cleaned_alike(capsys):
    results().print(ORDERS, markup=False)
    say(ORDERS)
    print_json({"a": ORDERS})
    assert not orders_in(capsys.readouterr().out)
