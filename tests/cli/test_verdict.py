"""One verdict, in four places: LangChain's metadata, the decision log, a queue and the command line."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import get_type_hints

import pytest
from langchain_core.messages import HumanMessage

from guardrail.errors import RecordError
from guardrail.escalation.queue import HumanQueue
from guardrail.escalation.verdict import AnswerDocument, Verdict, VerdictScores
from guardrail.guard.decision_log import DecisionRecord, read_decisions, text_digest
from guardrail.langchain import ChatGuardrail, verdict_of
from tests.support.guards import ASKED, PASS, SAID, guard_of, profile_file, profile_of, tiny

EARLIER = Path(__file__).parents[1] / "data" / "earlier"
ESCALATE = {"id": "up", "action": "escalate", "to": "human"}
OPTIONAL = {"draft", "reasoning"}
OF_A_LOG = {"time", "tags", "question", "answer"}

pytestmark = pytest.mark.usefixtures("one_thread")


def keys(form):
    return set(get_type_hints(form))


def fields(tmp_path, **more):
    return {
        "escalation": {"human": {"queue": f"sqlite:///{tmp_path}/q.db"}},
        "log": {"file": str(tmp_path / "log.jsonl"), **more},
    }


def logged(tmp_path):
    (record,) = read_decisions(tmp_path / "log.jsonl")
    return record


def queued(tmp_path, ticket):
    return HumanQueue(f"sqlite:///{tmp_path}/q.db").get(ticket).as_plain()["verdict"]


def check_the_same(verdict, record, case):
    assert set(verdict) == keys(Verdict) - OPTIONAL
    differing = {"policy", "escalation"}
    assert {name: record[name] for name in verdict if name not in differing} == {
        name: value for name, value in verdict.items() if name not in differing
    }
    assert record["policy"] == {"name": "test", "sha256": verdict["policy"]}
    assert record["escalation"] == verdict["escalation"]["attempts"]
    # The case was handed over before anything came of it.
    assert case["escalation"] is None
    seconds = verdict["timings"]["escalate_s"]
    assert {**case, "escalation": verdict["escalation"]} == {
        **verdict,
        "timings": {name: one for name, one in verdict["timings"].items() if name != "escalate_s"},
    }
    assert seconds == sum(attempt["seconds"] for attempt in record["escalation"])


def test_a_verdict_is_the_same_in_metadata_log_and_queue(tmp_path):
    guard = guard_of(ESCALATE, profile=profile_file(tmp_path, intercept=2.0), **fields(tmp_path))
    chat = ChatGuardrail(model=tiny(), policy=guard.policy, max_tokens=4)
    verdict = verdict_of(chat.invoke([HumanMessage(ASKED)]))
    del verdict["seal"]
    assert verdict["confidence"] is not None
    check_the_same(verdict, logged(tmp_path), queued(tmp_path, verdict["request"]))


def test_a_verdict_is_the_same_on_the_command_line_in_log_and_queue(run, tmp_path):
    policy = tmp_path / "policy.yaml"
    values = {"version": 1, "name": "test", "rules": [ESCALATE], **fields(tmp_path)}
    policy.write_text(json.dumps(values))
    result = run("ask", ASKED, "--max-tokens", 4, "--policy", policy, "--json")
    document = json.loads(result.stdout)
    assert set(document) == keys(AnswerDocument) - OPTIONAL
    verdict = {name: value for name, value in document.items() if name != "answer"}
    check_the_same(verdict, logged(tmp_path), queued(tmp_path, verdict["request"]))


def test_every_key_is_typed_and_documented():
    for form in (Verdict, DecisionRecord, AnswerDocument, VerdictScores):
        documented = "".join(str(base.__doc__) for base in (*form.__orig_bases__, form))
        documented += "".join(str(base.__doc__) for one in form.__orig_bases__ for base in bases_of(one))
        for name in keys(form):
            assert f"{name}:" in documented, (form.__name__, name)
    assert keys(DecisionRecord) == (keys(Verdict) | OF_A_LOG)


def bases_of(form):
    found = getattr(form, "__orig_bases__", ())
    return [*found, *(base for one in found for base in bases_of(one))]


@pytest.mark.parametrize("texts", ["none", "hash", "full"])
def test_the_name_of_a_called_tool_is_logged_as_what_was_said(tmp_path, texts):
    guard = guard_of(PASS, profile=profile_file(tmp_path), **fields(tmp_path, text=texts))
    answer = guard.judge(ASKED, SAID, tool_calls=["send_mail"])
    (verdict,) = answer.as_plain()["tool_calls"]
    (call,) = logged(tmp_path)["tool_calls"]
    names = {"none": "", "hash": text_digest(answer.request, "send_mail"), "full": "send_mail"}
    assert call == {**verdict, "name": names[texts]}


def test_a_document_has_the_reasoning_where_the_draft_is_shown(tmp_path):
    for rule, shown in ((PASS, True), ({"id": "no", "action": "abstain"}, False)):
        answer = replace(guard_of(rule).judge(ASKED, SAID), reasoning="Let me think.")
        document = answer.as_document()
        assert document["answer"] == answer.text
        assert "draft" not in document
        assert ("reasoning" in document) is shown
        whole = answer.as_document(draft=True)
        assert (whole["draft"], whole["reasoning"]) == (SAID, "Let me think.")


class TestAnEarlierVersion:
    def test_its_decision_log_is_read(self):
        records = read_decisions(EARLIER / "decisions.jsonl")
        assert [record["action"] for record in records] == ["escalate", "pass"] * 4
        always = keys(DecisionRecord) - {"question", "draft", "answer", "reasoning"}
        assert all(always <= record.keys() for record in records)
        first, full = records[0], records[4]
        assert first["confidence"] == pytest.approx(0.8808, abs=1e-4)
        assert first["escalation"][0]["outcome"] == "queued"
        assert (full["draft"], full["question"][-1]["content"]) == (SAID, ASKED)
        assert "draft" not in first
        assert records[2]["draft"] == text_digest(records[2]["request"], SAID)

    def test_its_decisions_are_not_counted_by_a_monitor(self):
        records = read_decisions(EARLIER / "decisions.jsonl")
        profile = profile_of(intercept=2.0)
        monitor = profile.monitor()
        for record in records:
            monitor.observe({**record, "profile": profile.digest})
        assert monitor.status().left_out == len(records)

    def test_its_queue_is_read_answered_and_exported(self, run, tmp_path):
        shutil.copy(EARLIER / "queue.db", tmp_path / "q.db")
        queue = HumanQueue(f"sqlite:///{tmp_path}/q.db")
        items = queue.items()
        assert [item.problem for item in items] == [""] * 4
        assert [item.answer and item.answer.verdict for item in items] == ["approve", "edit", "reject", None]
        assert {item.case.draft for item in items} == {SAID}
        assert [item.case.verdict for item in items] == [None] * 4
        queue.answer(items[3].ticket, "approve", by="bob")
        exported = run("queue", "export", "-q", queue.url, model=None).stdout
        lines = [json.loads(line) for line in exported.splitlines()]
        assert [line["correct"] for line in lines] == [True, False, False, True]
        assert lines[1]["correction"] == "Goethe."
        assert lines[0]["messages"] == list(items[0].case.messages)

    def test_new_lines_follow_on_its_log(self, tmp_path):
        shutil.copy(EARLIER / "decisions.jsonl", tmp_path / "log.jsonl")
        answer = guard_of(PASS, **fields(tmp_path)).judge(ASKED, SAID)
        records = read_decisions(tmp_path / "log.jsonl")
        assert len(records) == 9
        assert records[-1]["request"] == answer.request


def test_a_line_that_was_not_written_to_its_end_is_left_out_with_a_warning(tmp_path):
    guard_of(PASS, **fields(tmp_path))
    path = tmp_path / "log.jsonl"
    assert read_decisions(path) == []
    whole = (EARLIER / "decisions.jsonl").read_text().splitlines()
    path.write_text("\n".join([whole[0], whole[1][:100], whole[2]]) + "\n")
    with pytest.warns(RuntimeWarning, match=r"Line 2 of .* is left out"):
        assert len(read_decisions(path)) == 2


def test_what_is_no_decision_log_is_refused(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"question": "Who?"}\n')
    with pytest.raises(RecordError, match=r"Line 1 .* not the record of a decision"):
        read_decisions(path)
    with pytest.raises(RecordError, match="There is no file"):
        read_decisions(tmp_path / "missing")
