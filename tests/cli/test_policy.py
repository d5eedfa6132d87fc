import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import guardrail
from guardrail.cli.policy import app
from guardrail.errors import OptionError
from guardrail.policy.load import load_policy
from guardrail.policy.validation import schema_text
from tests.support.policy_texts import GOOD

READY = Path(guardrail.__file__).parents[1] / "policies"
BROKEN = "version: 1\nname: p\nmod: observe\nrules:\n  - {id: a, action: alow}\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "broken.yaml").write_text(BROKEN)
    (tmp_path / "wide.yaml").write_text(
        "version: 1\nname: wide\nmodel: ./nowhere\nrules: [{id: all, action: pass}]\n"
    )
    return tmp_path


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_a_good_policy_is_ok(folder):
    result = run("check", "good.yaml", "builtin:default")
    assert result.exit_code == 0
    # Neither names a profile of one's own, and what ships certifies nothing.
    warned, good, also_warned, default = result.stdout.splitlines()
    assert warned.startswith("good.yaml:21:23 rules[2].when.certified: warning: never holds")
    assert good == "good.yaml: ok (everything, 6 rules)"
    assert "rules[0].when.certified: warning: never holds" in also_warned
    assert default == "builtin:default: ok (default, 4 rules)"


def test_every_mistake_of_every_file_is_a_line(folder):
    result = run("check", "broken.yaml", "good.yaml", "nope.yaml", "wide.yaml")
    assert result.exit_code == 2
    lines = result.stdout.splitlines()
    assert lines[:2] == [
        "broken.yaml:3:1 mod: unknown key; did you mean 'mode'?",
        "broken.yaml:5:21 rules[0].action: is 'alow'; it can be pass or flag or abstain or escalate",
    ]
    assert lines[2].startswith("good.yaml:21:23 rules[2].when.certified: warning: ")
    assert lines[3:5] == [
        "good.yaml: ok (everything, 6 rules)",
        "nope.yaml:1:1 file: there is no such file",
    ]
    assert lines[5].startswith("wide.yaml:3:8 model: warning: ")
    assert lines[6] == "wide.yaml: ok (wide, 1 rules)"


def test_a_check_as_json_is_the_same_for_machines(folder):
    result = run("check", "broken.yaml", "wide.yaml", "--json")
    assert result.exit_code == 2
    broken, wide = json.loads(result.stdout)["files"]
    assert (broken["ok"], broken["digest"]) == (False, None)
    assert broken["mistakes"][0] == {
        "file": "broken.yaml",
        "line": 3,
        "column": 1,
        "path": "mod",
        "text": "unknown key; did you mean 'mode'?",
    }
    assert (wide["ok"], wide["digest"]) == (True, load_policy("wide.yaml").digest)
    assert wide["warnings"][0]["path"] == "model"


def test_a_policy_is_shown_as_it_was_written():
    assert run("show", "builtin:default").stdout == (READY / "default.yaml").read_text()


@pytest.mark.parametrize("policy", ["good.yaml", "builtin:observe-only", "builtin:human-review", "odd.yaml"])
def test_a_resolved_policy_reads_as_the_same_policy(folder, policy):
    (folder / "odd.yaml").write_text(
        "version: 1\nname: odd\ndescription: \"costs $$5, 'x': 1e-3 # no\\n\\u00fc\"\n"
        'log: {file: "1e3"}\nrules: [{id: "1", action: flag, message: "yes"}]\n'
    )
    shown = run("show", policy, "--resolved")
    assert shown.exit_code == 0
    (folder / "again.yaml").write_text(shown.stdout)
    assert load_policy("again.yaml") == load_policy(policy)
    assert shown.stdout.startswith(f"# sha256 {load_policy(policy).digest}\n")
    assert json.loads(run("show", policy, "--json").stdout)["policy"] == load_policy(policy).as_plain()


@pytest.mark.parametrize("command", [["show"], ["show", "--resolved"], ["explain"], ["test"]])
def test_a_policy_with_mistakes_is_refused_line_by_line(folder, command):
    cases = [str(READY / "cases/default.yaml")] if command == ["test"] else []
    result = run(*command, "broken.yaml", *cases)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert [line[:24] for line in result.stderr.splitlines()] == [
        "error: broken.yaml:3:1 m",
        "error: broken.yaml:5:21 ",
    ]


def test_a_policy_with_mistakes_is_refused_as_json_where_that_was_asked_for(folder):
    error = json.loads(run("explain", "broken.yaml", "--json").stdout)["error"]
    assert error["type"] == "PolicyError"
    assert [mistake[:17] for mistake in error["mistakes"]] == ["broken.yaml:3:1 m", "broken.yaml:5:21 "]


def test_the_schema_is_printed():
    assert run("schema").stdout == schema_text()


def test_the_ready_policies_are_listed():
    lines = run("list").stdout.splitlines()
    assert len(lines) == 6
    assert lines[0].split()[:3] == ["builtin:default", "Show", "likely-correct"]
    assert {row["name"] for row in json.loads(run("list", "--json").stdout)} >= {"builtin:strict"}


def test_cases_that_hold_end_with_0(folder):
    result = run("test", "builtin:default", str(READY / "cases/default.yaml"))
    assert (result.exit_code, result.stdout) == (0, "7 of 7 cases pass\n")


def test_a_case_that_does_not_hold_ends_with_1_and_shows_the_difference(folder):
    (folder / "cases.yaml").write_text(
        "cases:\n"
        "  - {name: good, given: {confidence: 0.95}, expect: pass}\n"
        "  - {name: bad, given: {confidence: 0.6}, expect: pass}\n"
    )
    result = run("test", "builtin:default", "cases.yaml")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "cases.yaml:3:5 bad",
        "    action: expected 'pass', got 'flag'",
        "    by unsure: confidence 0.6 is at least 0.5",
        "1 of 2 cases pass",
    ]
    told = json.loads(run("test", "builtin:default", "cases.yaml", "--json").stdout)
    assert told["failed"] == 1
    assert [case["holds"] for case in told["cases"]] == [True, False]


def test_cases_that_cannot_be_read_end_with_2(folder):
    (folder / "cases.yaml").write_text("cases: [{name: a, given: {}, expect: alow}]\ncase: 1\n")
    result = run("test", "builtin:default", "cases.yaml")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 2
    assert run("test", "builtin:default", "nope.yaml").exit_code == 2


def test_an_explanation_says_which_rule_decides_and_what_each_says():
    result = run("explain", "builtin:default", "--confidence", "0.62")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "flag, by unsure",
        "    confidence 0.62 is at least 0.5",
        "    message: Check before using: 62% likely to be right.",
        "",
        "certified  false    guarantee not met (would promise at most 5 % wrong, with 95 % confidence)",
        "confident  false    confidence 0.62 is not at least 0.9",
        "unsure     true     confidence 0.62 is at least 0.5",
        "default    true     no earlier rule applies",
    ]


@pytest.mark.parametrize(
    ("policy", "arguments", "decision"),
    [
        ("builtin:default", ["--confidence", "0.2", "--certified", "0.05@0.95"], "pass, by certified"),
        ("builtin:default", ["--uncertainty", "hybridgrad=0.02"], "flag, by on_uncalibrated"),
        (
            "builtin:default",
            [
                "--confidence",
                "0.97",
                "--uncertainty",
                "hybridgrad=0.02",
                "--outside-domain",
                "it is another's",
            ],
            "abstain, by on_outside_domain",
        ),
        ("builtin:default", ["--confidence", "nan"], "abstain, by on_error"),
        ("builtin:default", ["--confidence", "0.99", "--error", "gone"], "abstain, by on_error"),
        ("builtin:default", [], "abstain, by on_error"),
        ("builtin:strict", ["--confidence", "0.9", "--finish-reason", "length"], "abstain, by cut-off"),
        (
            "builtin:human-review",
            ["--confidence", "0.9", "--tool-call", "x"],
            "escalate to human, by doubtful-tool",
        ),
        (
            "builtin:observe-only",
            ["--confidence", "0.2"],
            "abstain, by default (observed only: the answer is shown)",
        ),
        (
            "good.yaml",
            ["--confidence", "0.95", "--quantile", "hybridgrad=0.95", "--quantile", "confidence_score=0"],
            "escalate to strong, by odd",
        ),
        (
            "good.yaml",
            ["--confidence", "0.9", "--tag", "public", "--finish-reason", "length"],
            "abstain, by cut-off",
        ),
    ],
)
def test_an_explanation_takes_everything_that_may_be_known(folder, policy, arguments, decision):
    assert run("explain", policy, *arguments).stdout.splitlines()[0] == decision


def test_an_explanation_as_json_is_the_same_for_machines():
    told = json.loads(run("explain", "builtin:default", "--confidence", "0.4", "--json").stdout)
    assert told["decision"]["action"] == "abstain"
    assert told["decision"]["enforced"] is True
    assert [rule["outcome"] for rule in told["rules"]] == ["false", "false", "false", "true"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--uncertainty", "hybrid=1"], "unknown score 'hybrid'; did you mean 'hybridgrad'?"),
        (["--quantile", "hybridgrad=high"], "'high' is not a number"),
        (["--certified", "0.05"], "'' is not a number; write, for example, 0.05@0.95"),
        (["--certified", "5@0.95"], "--certified: "),
    ],
)
def test_what_is_no_evidence_is_a_usage_error(arguments, said):
    result = run("explain", "builtin:default", *arguments)
    assert isinstance(result.exception, OptionError)
    assert said in str(result.exception)


def _process(*commands: list[str]) -> subprocess.CompletedProcess[str]:
    """Run commands in a process of their own, which ends by saying what large packages it loaded."""
    code = (
        "import sys\n"
        "from guardrail.cli.policy import app\n"
        f"for command in {[*commands]!r}:\n"
        "    app(command, standalone_mode=False)\n"
        "large = ('torch', 'numpy', 'transformers', 'sklearn', 'matplotlib', 'scipy')\n"
        "print([name for name in large if name in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": str(READY.parent)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )


def test_no_command_loads_anything_large():
    policy = "builtin:default"
    result = _process(
        ["check", policy],
        ["show", policy, "--resolved"],
        ["schema"],
        ["list"],
        ["explain", policy, "--confidence", "0.4"],
        ["test", policy, str(READY / "cases/default.yaml")],
    )
    assert result.stdout.splitlines()[-1] == "[]"


def test_a_check_answers_at_once():
    command = [sys.executable, "-m", "guardrail", "policy", "check", str(READY / "default.yaml")]
    environment = os.environ | {"PYTHONPATH": str(READY.parent)}
    used = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, env=environment, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # Processor time, which other processes lengthen less; half a second is the promise on an idle machine.
    assert min(used) < 1.0
