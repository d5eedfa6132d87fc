"""What a conversation may hold beside texts loses neither its decision nor its case for a person."""

import json
from functools import cache

import pytest

from guardrail.escalation.queue import HumanQueue
from guardrail.guard.decision_log import text_digest
from guardrail.models.local import LocalModel
from guardrail.utils.json_lines import json_object, plain_json
from tests.support.chat import tiny_chat
from tests.support.guards import SAID, guard_of, tiny
from tests.support.hostile import HOSTILE
from tests.support.templates import HERMES

pytestmark = pytest.mark.usefixtures("one_thread")
ESCALATE = {"id": "ask", "action": "escalate", "to": "people"}


def conversation(value):
    call = {"type": "function", "function": {"name": "pay", "arguments": {"value": value}}}
    return [
        {"role": "user", "content": "Pay him."},
        {"role": "assistant", "content": "Yes.", "tool_calls": [call]},
        {"role": "user", "content": "Did you?", "sent": value},
    ]


def guard_for(tmp_path, texts, model=None):
    url = f"sqlite:///{tmp_path}/queue.db"
    policy = {
        "escalation": {"people": {"queue": url}},
        "on_error": {"action": "escalate", "to": "people"},
        "log": {"file": str(tmp_path / "log.jsonl"), "text": texts},
    }
    return guard_of(ESCALATE, model=model or caller(), **policy), HumanQueue(url)


@cache
def caller():
    """A tiny model whose template writes the calls of earlier turns."""
    model, tokenizer = tiny_chat()
    tokenizer.chat_template = HERMES
    return LocalModel(model, tokenizer, "caller")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_person_gets_the_case_and_the_decision_is_recorded(tmp_path, name):
    value = HOSTILE[name]
    # The tiny model reads no more than 512 tokens, and without a template for calls it does not read these.
    guard, queue = guard_for(tmp_path, "full", tiny() if name in ("deep", "huge", "huger") else caller())
    asked = conversation(value)
    answer = guard.judge(asked, SAID)
    (item,) = queue.items()
    assert answer.error == ""
    assert answer.escalation.ticket == item.ticket == answer.request
    assert [message["content"] for message in item.case.messages] == ["Pay him.", "Yes.", "Did you?"]
    assert "pay" in str(item.case.messages[1]["tool_calls"])
    assert plain_json(item.case.messages) == item.case.messages
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    record = json_object(line)
    assert (record["action"], record["request"]) == ("escalate", answer.request)
    assert record["question"][2].keys() == {"role", "content", "sent"}
    json.dumps(answer.as_plain(), allow_nan=False)


def test_the_hash_of_a_conversation_is_that_of_its_json(tmp_path):
    guard, _ = guard_for(tmp_path, "hash")
    asked = conversation(HOSTILE["date"])
    answer = guard.judge(asked, SAID)
    said = json.dumps(plain_json(asked), sort_keys=True)
    assert "2026-01-31" in said
    assert json_object((tmp_path / "log.jsonl").read_text())["question"] == text_digest(answer.request, said)


def test_the_same_case_put_again_is_one_ticket(tmp_path):
    guard, queue = guard_for(tmp_path, "none")
    guard.judge(conversation({"b", "a"}), SAID)
    (item,) = queue.items()
    assert queue.put(item.case) == item.ticket


def test_a_stored_case_that_holds_no_json_number_is_not_read(tmp_path):
    import sqlite3

    guard, queue = guard_for(tmp_path, "none")
    guard.judge("Who?", SAID)
    with sqlite3.connect(queue.path) as connection:
        connection.execute("UPDATE cases SET record = replace(record, '\"tags\": []', '\"tags\": [NaN]')")
    connection.close()
    (item,) = queue.items()
    assert "cannot be read" in item.problem
