"""A guard in a process that was forked off: it answers, or says at once why it cannot."""

import asyncio
import multiprocessing
import os
import threading

import pytest
import torch

from guardrail.escalation.queue import HumanQueue
from guardrail.models.decoding import GenerationControls
from guardrail.models.sampling import Sampling
from guardrail.utils.threads import ForkSafeLock
from tests.support.chat_models import chat_of
from tests.support.guards import ASKED, PASS, SHORT, guard_of

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

PATIENCE_S = 60


def in_fork(call):
    """What a call gives, or raises, in a forked process; a process that hangs is a failure."""
    forking = multiprocessing.get_context("fork")
    receiver, sender = forking.Pipe(duplex=False)

    def run():
        try:
            sender.send(call())
        except Exception as error:  # noqa: BLE001  (told on the other side)
            sender.send((type(error).__name__, str(error)))

    process = forking.Process(target=run, daemon=True)
    process.start()
    try:
        assert receiver.poll(PATIENCE_S), "the forked process hangs"
        return receiver.recv()
    finally:
        process.kill()
        process.join()


async def streamed(chat):
    return "".join([chunk.content async for chunk in chat.astream(ASKED)])


WAYS = {
    "ask": lambda chat: chat.guard.ask(ASKED, Sampling(max_tokens=6)).text,
    "within a time": lambda chat: chat.guard.ask(ASKED, Sampling(max_tokens=6), timeout=50).text,
    "beside a loop": lambda chat: asyncio.run(chat.guard.aask(ASKED, Sampling(max_tokens=6))).text,
    "invoke": lambda chat: chat.invoke(ASKED).content,
    "ainvoke": lambda chat: asyncio.run(chat.ainvoke(ASKED)).content,
    "invoke within a time": lambda chat: chat.invoke(ASKED, timeout=50).content,
    "stream": lambda chat: "".join(chunk.content for chunk in chat.stream(ASKED)),
    "astream": lambda chat: asyncio.run(streamed(chat)),
}


@pytest.mark.parametrize("streaming", ["buffer", "annotate"])
def test_every_way_of_asking_answers_after_a_fork(streaming, tmp_path):
    policy = {"streaming": streaming, "on_uncalibrated": "flag", "log": {"file": str(tmp_path / "log.jsonl")}}
    chat = chat_of(PASS, policy=policy)
    # The thread that serves tasks is there before the fork, and is not behind it.
    expected = asyncio.run(chat.ainvoke(ASKED)).content

    def asked():
        return {name: way(chat) for name, way in WAYS.items()}

    assert in_fork(asked) == dict.fromkeys(WAYS, expected)
    assert chat.invoke(ASKED, timeout=50).content == expected
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2 + len(WAYS)


def test_a_process_that_was_forked_off_within_an_answer_is_told_so_at_once():
    guard = guard_of(PASS)
    reached, go_on, answers = threading.Event(), threading.Event(), []

    def on_text(piece):
        reached.set()
        assert go_on.wait(PATIENCE_S)

    def ask():
        answers.append(guard.ask(ASKED, Sampling(max_tokens=6), controls=GenerationControls(on_text=on_text)))

    thread = threading.Thread(target=ask)
    thread.start()
    assert reached.wait(PATIENCE_S)
    try:
        refused = in_fork(lambda: guard.ask(ASKED, SHORT, timeout=50).as_plain())
    finally:
        go_on.set()
        thread.join()
    error = refused[1] if isinstance(refused, tuple) else refused["error"]
    assert "forked off while tiny answered" in error
    # Nothing of it is in the process that goes on.
    assert answers[0].text
    assert guard.ask(ASKED, SHORT).text


def test_what_waited_for_the_model_is_not_answered_twice():
    guard = guard_of(PASS)
    done = []
    with guard.model.lock:
        waiting = threading.Thread(target=lambda: done.append(guard.ask(ASKED, SHORT).text))
        waiting.start()
        forked = in_fork(lambda: guard.ask(ASKED, SHORT).text)
    waiting.join()
    assert done == [forked]


def test_a_lock_is_free_behind_a_fork_whoever_held_it():
    lock = ForkSafeLock()

    def take():
        with lock:
            return "taken"

    with lock:
        assert in_fork(take) == "taken"


def test_a_queue_is_used_on_both_sides_of_a_fork(tmp_path):
    up = {"id": "up", "action": "escalate", "to": "people"}
    url = f"sqlite:///{tmp_path}/q.db"
    guard = guard_of(up, escalation={"people": {"queue": url}})
    first = guard.ask(ASKED, SHORT).escalation.ticket
    second = in_fork(lambda: asyncio.run(guard.aask(ASKED, SHORT)).escalation.ticket)
    third = guard.ask(ASKED, SHORT).escalation.ticket
    assert [item.ticket for item in HumanQueue(url).items()] == [first, second, third]


def test_threads_that_torch_computed_by_are_not_waited_for():
    guard = guard_of(PASS)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        matrix = torch.ones(800, 800)
        torch.nn.functional.gelu(matrix @ matrix)
        assert in_fork(
            lambda: (bool(torch.nn.functional.gelu(matrix).any()), guard.ask(ASKED, SHORT).action)
        ) == (
            True,
            "pass",
        )
    finally:
        torch.set_num_threads(before)
