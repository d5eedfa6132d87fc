import json
import os
import stat
import subprocess
import sys
import threading

import pytest

from guardrail.errors import GuardrailError, OptionError
from guardrail.guard.decision_log import DecisionLog, text_digest
from tests.support.guards import ASKED, PASS, SAID, guard_of, profile_file, tiny

ABSTAIN = {"id": "no", "action": "abstain"}
FIELDS = [
    "time",
    "request",
    "policy",
    "profile",
    "model",
    "answered_by",
    "generated_by",
    "action",
    "enforced",
    "rule",
    "reason",
    "message",
    "outside_domain",
    "domain",
    "uncertified",
    "familiar",
    "confidence",
    "confidence_interval",
    "confidence_score",
    "scores",
    "quantiles",
    "guarantees",
    "tool_calls",
    "sentences",
    "finish_reason",
    "usage",
    "turns_left_out",
    "released",
    "tags",
    "escalation",
    "error",
    "timings",
]

pytestmark = pytest.mark.usefixtures("one_thread")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def logging(path, texts="none", **fields):
    return {"log": {"file": str(path), "text": texts}, **fields}


def test_every_decision_is_one_line_with_all_that_led_to_it(tmp_path):
    path = tmp_path / "log.jsonl"
    guard = guard_of(ABSTAIN, profile=profile_file(tmp_path), **logging(path))
    answer = guard.judge(ASKED, SAID, tags=["b", "a"])
    guard.judge_batch([ASKED, ASKED], [SAID, SAID])
    first, second, third = lines(path)
    assert list(first) == FIELDS
    assert first["request"] == answer.request
    assert first["policy"] == {"name": "test", "sha256": answer.policy_digest}
    assert (first["profile"], first["model"]) == (answer.profile_digest, "tiny")
    assert (first["action"], first["rule"], first["enforced"]) == ("abstain", "no", True)
    assert first["confidence"] == answer.confidence
    assert first["scores"] == answer.uncertainty.scores()
    assert first["tags"] == ["a", "b"]
    assert len({first["request"], second["request"], third["request"]}) == 3


def test_what_was_said_is_logged_as_the_policy_says(tmp_path):
    question = json.dumps([{"content": ASKED, "role": "user"}])
    for texts in ("none", "hash", "full"):
        path = tmp_path / texts
        answer = guard_of(ABSTAIN, **logging(path, texts)).judge(ASKED, SAID)
        (line,) = lines(path)
        said = {name: line.get(name) for name in ("question", "draft", "answer")}
        if texts == "full":
            asked = [{"role": "user", "content": ASKED}]
            assert said == {"question": asked, "draft": SAID, "answer": answer.text}
            continue
        assert ASKED not in path.read_text()
        assert SAID not in path.read_text()
        if texts == "none":
            assert list(line) == FIELDS
        else:
            assert said["question"] == text_digest(answer.request, question)
            assert said["draft"] == text_digest(answer.request, SAID)
            assert said["draft"] != text_digest("another", SAID)


def test_every_attempt_of_an_escalation_is_logged(tmp_path):
    path = tmp_path / "log.jsonl"
    named = {"first": {"callable": "json:dumps", "on_error": "second"}, "second": {"callable": "json:dumps"}}

    def down(case):
        raise ConnectionError(case.draft)

    targets = {"first": down, "second": lambda case: "Goethe."}
    rule = {"id": "up", "action": "escalate", "to": "first"}
    guard_of(rule, targets=targets, escalation=named, **logging(path)).judge(ASKED, SAID)
    (line,) = lines(path)
    assert [(one["target"], one["outcome"]) for one in line["escalation"]] == [
        ("first", "failed"),
        ("second", "answered"),
    ]
    assert line["escalation"][0]["error"] == "ConnectionError: the target failed"
    assert "Goethe" not in path.read_text()


def test_the_file_is_its_owners_alone(tmp_path):
    before = os.umask(0)
    try:
        DecisionLog(tmp_path / "log.jsonl")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "log.jsonl").stat().st_mode) == 0o600


def test_a_log_that_cannot_be_written_is_known_when_the_guard_is_made(tmp_path):
    with pytest.raises(OptionError, match="cannot be written"):
        guard_of(PASS, **logging(tmp_path / "missing" / "log.jsonl"))


def failing(path):
    """A log that could be written when the guard was made."""
    path.unlink()
    path.mkdir()


def test_a_decision_that_cannot_be_recorded_is_not_shown(tmp_path):
    guard = guard_of(PASS, **logging(tmp_path / "log"))
    failing(tmp_path / "log")
    answer = guard.judge(ASKED, SAID)
    assert (answer.action, answer.rule) == ("abstain", "on_error")
    said = "it is a folder, not a regular file"
    assert answer.error == f"IsADirectoryError: the decision could not be recorded ({said})"
    assert SAID not in (answer.text, answer.message)


def test_an_escalated_answer_that_cannot_be_recorded_is_not_shown_either(tmp_path):
    rule = {"id": "up", "action": "escalate", "to": "strong"}
    named = {"escalation": {"strong": {"callable": "json:dumps"}}, **logging(tmp_path / "log")}
    guard = guard_of(rule, targets={"strong": lambda case: "Goethe."}, **named)
    failing(tmp_path / "log")
    answer = guard.judge(ASKED, SAID)
    assert (answer.action, answer.text == "Goethe.") == ("abstain", False)
    assert answer.escalation.attempts[0].outcome == "answered"


def test_where_a_policy_observes_a_failing_log_is_warned_of_and_changes_nothing(tmp_path):
    guard = guard_of(PASS, mode="observe", **logging(tmp_path / "log"))
    failing(tmp_path / "log")
    with pytest.warns(RuntimeWarning, match="could not be recorded"):
        assert guard.judge(ASKED, SAID).text == SAID


def test_a_line_that_was_cut_off_spoils_no_other(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"request": 1}\n{"requ')
    log = DecisionLog(path)
    log.write({"request": 2})
    log.write({"request": 3})
    assert path.read_text().splitlines() == ['{"request": 1}', '{"requ', '{"request": 2}', '{"request": 3}']


def test_less_than_a_line_is_an_error(tmp_path, monkeypatch):
    log = DecisionLog(tmp_path / "log.jsonl")
    monkeypatch.setattr(os, "write", lambda file, data: len(data) - 1)
    with pytest.raises(GuardrailError, match="part of a line"):
        log.write({"request": 1})


def test_a_log_that_was_moved_away_is_begun_anew(tmp_path):
    log = DecisionLog(tmp_path / "log.jsonl")
    log.write({"request": 1})
    (tmp_path / "log.jsonl").rename(tmp_path / "old.jsonl")
    log.write({"request": 2})
    assert lines(tmp_path / "log.jsonl") == [{"request": 2}]


def test_a_number_that_is_none_is_not_logged_as_one(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        DecisionLog(tmp_path / "log.jsonl").write({"confidence": float("nan")})
    assert (tmp_path / "log.jsonl").read_text() == ""


WRITER = """
import sys, threading
from guardrail.guard.decision_log import DecisionLog
log = DecisionLog(sys.argv[1])
def write(thread):
    for number in range(50):
        log.write({"who": sys.argv[2], "thread": thread, "number": number, "long": "x" * 5000})
threads = [threading.Thread(target=write, args=(at,)) for at in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


def test_lines_of_many_threads_and_processes_are_never_mixed(tmp_path):
    path = tmp_path / "log.jsonl"
    command = [sys.executable, "-c", WRITER, str(path)]
    processes = [subprocess.Popen([*command, name]) for name in ("a", "b", "c")]
    assert [process.wait() for process in processes] == [0, 0, 0]
    written = lines(path)
    assert len({(line["who"], line["thread"], line["number"]) for line in written}) == len(written) == 600


def test_one_guard_of_many_threads_writes_whole_lines(tmp_path):
    guard = guard_of(PASS, model=tiny(), **logging(tmp_path / "log.jsonl", "full"))
    threads = [threading.Thread(target=guard.judge, args=(ASKED, f"{SAID} {at}")) for at in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    drafts = {line["draft"] for line in lines(tmp_path / "log.jsonl")}
    assert drafts == {f"{SAID} {at}" for at in range(12)}


def test_without_texts_nothing_says_which_tool_a_withheld_answer_called(tmp_path):
    held = {"id": "no", "when": {"tool_call": ["Ouaga*"]}, "action": "abstain", "message": "No."}
    guard = guard_of(held, PASS, **logging(tmp_path / "log"))
    answer = guard.judge(ASKED, SAID, tool_calls=["Ouagadougou"])
    assert answer.reason == "the answer calls a tool that matches Ouaga*"
    written = (tmp_path / "log").read_text("utf-8")
    assert '"rule": "no"' in written
    assert "Ouagadougou" not in f"{written}{answer.as_plain()}"
