"""The id of a request: the caller's where it gives one, the same in verdict, log and ticket."""

import asyncio
import json
from uuid import uuid4

import pytest

from guardrail.errors import OptionError
from guardrail.escalation.queue import HumanQueue
from guardrail.guard import Guard
from tests.guard.test_scheduler import Runs, request
from tests.support.guards import ASKED, PASS, SHORT, policy_of, tiny

pytestmark = pytest.mark.usefixtures("one_thread")

ID, OTHER = "0123456789abcdef0123456789abcdef", "f" * 32
UP = {"id": "up", "action": "escalate", "to": "human"}


def guard_in(folder, rule):
    fields = {"log": {"file": str(folder / "log.jsonl"), "text": "none"}}
    if rule is UP:
        fields["escalation"] = {"human": {"queue": f"sqlite:///{folder / 'queue.db'}"}}
    return Guard(policy_of(rule, **fields), tiny())


def every_door(guard):
    yield "ask", lambda **kwargs: guard.ask(ASKED, SHORT, **kwargs)
    yield "judge", lambda **kwargs: guard.judge(ASKED, "Yes.", **kwargs)
    yield "refuse", lambda **kwargs: guard.refuse(ASKED, "Yes.", "Test: no", **kwargs)
    yield "aask", lambda **kwargs: asyncio.run(guard.aask(ASKED, SHORT, **kwargs))
    yield "ajudge", lambda **kwargs: asyncio.run(guard.ajudge(ASKED, "Yes.", **kwargs))
    yield "arefuse", lambda **kwargs: asyncio.run(guard.arefuse(ASKED, "Yes.", "Test: no", **kwargs))


@pytest.mark.parametrize("rule", [PASS, UP], ids=lambda rule: rule["action"])
def test_the_id_that_is_given_is_the_one_of_verdict_log_and_ticket(tmp_path, rule):
    guard = guard_in(tmp_path, rule)
    given = [uuid4().hex for _ in every_door(guard)]
    answers = [door(request_id=one) for one, (_, door) in zip(given, every_door(guard), strict=True)]
    assert [answer.request for answer in answers] == given
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["request"] for line in lines] == given
    if rule is UP:
        escalated = [answer.request for answer in answers if answer.action == "escalate"]
        assert len(escalated) == 4
        queue = HumanQueue(f"sqlite:///{tmp_path / 'queue.db'}")
        assert [item.ticket for item in queue.items()] == escalated
        assert [item.case.verdict["request"] for item in queue.items()] == escalated


@pytest.mark.parametrize(
    "given", ["", "abc", ID.upper(), f"{ID}0", f"{ID}\n", f"{ID[:-1]}/", f"{ID[:-1]}٣", 7]
)
def test_an_id_of_another_form_is_refused_at_every_door(given):
    guard = Guard(policy_of(PASS), tiny())
    for name, door in every_door(guard):
        with pytest.raises(OptionError, match="request_id"):
            door(request_id=given)
        assert name


def test_ids_that_are_not_given_are_of_the_form_that_may_be():
    guard = Guard(policy_of(PASS), tiny())
    ids = [door().request for _, door in every_door(guard)]
    assert len({*ids}) == len(ids)
    assert guard.ask(ASKED, SHORT, request_id=ids[0]).request == ids[0]


def test_two_requests_of_one_id_that_run_together_do_not_swap_answers():
    one, other = request(ID, OTHER), request(ID)
    one.jobs[0].messages[0]["content"] = "first"
    runs = Runs()
    runs.line._run = lambda jobs, *_: [job.messages[0]["content"] for job in jobs]
    assert runs.all_waiting(one, other) == [["first", OTHER], [ID]]


def test_a_second_case_by_the_id_of_another_is_withheld_and_not_queued_over_it(tmp_path):
    guard = guard_in(tmp_path, UP)
    first = guard.ask(ASKED, SHORT, request_id=ID)
    second = guard.ask(f"{ASKED} And why?", SHORT, request_id=ID)
    assert (first.action, second.action) == ("escalate", "abstain")
    assert second.escalation.ticket is None
    (item,) = HumanQueue(f"sqlite:///{tmp_path / 'queue.db'}").items()
    assert item.case.messages[-1]["content"] == ASKED
