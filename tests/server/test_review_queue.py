"""The review queue over HTTP: what is seen and decided, by whom, and what two who decide at once get."""

import asyncio
import threading

import httpx
import pytest

from guardrail.escalation.queue import HumanQueue
from guardrail.guard import Guard
from guardrail.server.api_keys import ApiKeys
from guardrail.server.readiness import Readiness
from tests.support.guards import ASKED, policy_of, tiny
from tests.support.keys import ask, bearer, entry, written
from tests.support.serving import serving

pytestmark = pytest.mark.usefixtures("one_thread")

QUEUE = "/v1/guardrail/queue"
UP = {"id": "up", "action": "escalate", "to": "human", "message": "Your ticket: {ticket}"}


@pytest.fixture
def review(tmp_path):
    database, log = tmp_path / "queue.db", tmp_path / "log.jsonl"
    fields = {"escalation": {"human": {"queue": f"sqlite:///{database}"}}, "log": {"file": str(log)}}
    other = {"escalation": {"human": {"queue": f"sqlite:///{tmp_path / 'other.db'}"}}}
    path = written(
        tmp_path,
        entry("app"),
        entry("anna", role="reviewer", policies=["test"]),
        entry("bert", role="reviewer"),
        entry("carl", role="reviewer", policies=["other"]),
    )
    guard = Guard(policy_of(UP, **fields), tiny(), batch_size=8)
    others = {"other": Guard(policy_of(UP, **other), guard.model, batch_size=8)}
    with serving(guard=guard, others=others, keys=ApiKeys.from_file(path)) as served:
        served.folder = tmp_path
        yield served


def say(served, name, ticket, **body):
    return served.client.post(f"{QUEUE}/{ticket}", json=body, headers=bearer(name))


def see(served, name, path="", **params):
    return served.client.get(f"{QUEUE}{path}", params=params, headers=bearer(name))


def test_a_case_is_seen_and_decided_by_the_key_that_decides(review):
    tickets = [ask(review, "app").json()["guardrail"]["request"] for _ in range(3)]
    page = see(review, "anna", limit=2).json()
    assert [item["ticket"] for item in page["data"]] == tickets[:2]
    assert page["has_more"] is True
    rest = see(review, "anna", limit=2, after=tickets[1]).json()
    assert ([item["ticket"] for item in rest["data"]], rest["has_more"]) == (tickets[2:], False)
    item = see(review, "anna", f"/{tickets[0]}").json()
    assert item["messages"][-1]["content"] == ASKED
    assert item["draft"]
    assert item["status"] == "waiting"

    forged = say(review, "anna", tickets[0], verdict="approve", by="boss")
    assert (forged.status_code, forged.json()["error"]["param"]) == (400, "by")
    first = say(review, "anna", tickets[0], verdict="edit", text="Goethe.")
    assert first.json()["answer"] | {"at": ""} == {
        "verdict": "edit",
        "text": "Goethe.",
        "by": "anna",
        "at": "",
    }
    assert say(review, "anna", tickets[0], verdict="edit", text="Goethe.").json() == first.json()
    for name, body in (("anna", {"verdict": "reject"}), ("bert", {"verdict": "edit", "text": "Goethe."})):
        late = say(review, name, tickets[0], **body)
        assert (late.status_code, late.json()["error"]["code"]) == (409, "answered_before")
    assert [i["ticket"] for i in see(review, "bert", status="answered").json()["data"]] == tickets[:1]
    stored = HumanQueue(f"sqlite:///{review.folder / 'queue.db'}").get(tickets[0])
    assert (stored.answer.by, stored.text) == ("anna", "Goethe.")
    for text in (ASKED, item["draft"], "Goethe."):
        assert text not in review.log
    assert f'"ticket": "{tickets[0]}"' in review.log
    assert '"key": "anna"' in review.log


def test_of_two_who_decide_at_once_one_does_and_the_other_is_told(review):
    ticket = ask(review, "app").json()["guardrail"]["request"]
    statuses = []

    def decide(name, verdict):
        with httpx.Client(base_url=review.url, timeout=60) as client:
            response = client.post(f"{QUEUE}/{ticket}", json={"verdict": verdict}, headers=bearer(name))
        statuses.append((response.status_code, name))

    pairs = [("anna", "approve"), ("bert", "reject")] * 3
    threads = [threading.Thread(target=decide, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    who = see(review, "anna", f"/{ticket}").json()["answer"]["by"]
    assert sorted(statuses) == sorted((200 if name == who else 409, name) for name, _ in pairs)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"verdict": "maybe"},
        {"verdict": "edit"},
        {"verdict": "edit", "text": ""},
        {"verdict": "edit", "text": "\u200b"},
        {"verdict": "approve", "text": "x"},
        {"verdict": 1},
    ],
)
def test_what_cannot_be_an_answer_is_refused_and_decides_nothing(review, body):
    ticket = ask(review, "app").json()["guardrail"]["request"]
    assert say(review, "anna", ticket, **body).status_code == 400
    assert see(review, "anna", f"/{ticket}").json()["status"] == "waiting"


def test_tickets_are_whole_and_of_the_queues_of_the_reviewers_policies(review):
    ticket = ask(review, "app").json()["guardrail"]["request"]
    strange = (
        "..",
        "%2e%2e%2fqueue.db",
        ticket[:8],
        ticket.upper(),
        f"{ticket}0",
        "0" * 32,
        "%00",
        f"{ticket}/x",
    )
    for one in strange:
        for response in (
            review.client.get(f"{QUEUE}/{one}", headers=bearer("anna")),
            say(review, "anna", one, verdict="reject"),
        ):
            assert response.status_code in (403, 404, 405), one
            assert str(review.folder) not in response.text
    assert see(review, "carl", f"/{ticket}").status_code == 404
    assert see(review, "carl").json()["data"] == []
    assert say(review, "carl", ticket, verdict="reject").status_code == 404
    assert see(review, "bert", f"/{ticket}").status_code == 200
    assert see(review, "app", f"/{ticket}").status_code == 403
    assert say(review, "app", ticket, verdict="approve").status_code == 403
    for params in (
        {"limit": 0},
        {"limit": 101},
        {"limit": "x"},
        {"status": "open"},
        {"after": "a"},
        {"q": "x"},
    ):
        assert see(review, "anna", **params).status_code == 400
    assert see(review, "anna", after="0" * 32).status_code == 404


def test_readyz_says_what_cannot_be_written_and_not_where(review, monkeypatch):
    monkeypatch.setattr("guardrail.server.readiness._KEPT_S", 0.0)
    assert review.client.get("/readyz").status_code == 200
    (review.folder / "log.jsonl").unlink(missing_ok=True)
    (review.folder / "log.jsonl").mkdir()
    told = review.client.get("/readyz")
    assert told.status_code == 503
    assert told.json()["error"]["message"] == "Not ready: the decision log cannot be written."
    (review.folder / "other.db").write_bytes(b"no database" * 100)
    told = review.client.get("/readyz")
    assert "queue" in told.json()["error"]["message"]
    assert "log" in told.json()["error"]["message"]
    assert str(review.folder) not in told.text
    assert review.client.get("/healthz").status_code == 200
    (review.folder / "log.jsonl").rmdir()
    assert "log" not in review.client.get("/readyz").json()["error"]["message"]


def test_a_policy_without_stores_is_ready():
    assert asyncio.run(Readiness([policy_of({"id": "all", "action": "pass"})]).problems()) == []
