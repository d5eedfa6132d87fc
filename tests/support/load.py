"""Many clients of a `guardrail serve` process at once, whose answers can be told apart."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import isclose

import httpx

from guardrail.escalation.queue import HumanQueue
from guardrail.guard import Guard
from guardrail.guard.decision_log import read_decisions, text_digest
from guardrail.models.local import LocalModel
from guardrail.models.sampling import Sampling
from guardrail.policy.load import load_policy
from tests.support.chat import save_tiny_chat

CHAT = "/v1/chat/completions"
TOKENS = 3
# So far apart are the scores of one answer in batches of different sizes, at most.
_TOLERANCE = 1e-3


def question(at):
    return f"What is {at} plus {at * 7 % 1000}, and {'very ' * (at % 5)}why?"


def messages(at):
    return [{"role": "user", "content": question(at)}]


@dataclass
class Deployment:
    """A folder with a tiny model, and a policy that escalates half of its answers, with queue and log."""

    folder: object
    expected: dict = field(default_factory=dict)

    @classmethod
    def made(cls, folder, questions):
        """With what the guard answers each question, asked in this process."""
        save_tiny_chat(folder / "tiny")
        one = cls(folder)
        one.write_policy(0.0)
        guard = Guard(load_policy(one.observing), LocalModel.load(str(folder / "tiny")))
        for begin in range(0, questions, 32):
            batch = range(begin, min(begin + 32, questions))
            answers = guard.ask_batch([messages(at) for at in batch], Sampling(max_tokens=TOKENS))
            for at, answer in zip(batch, answers, strict=True):
                # Random weights may end at once.
                if answer.uncertainty is not None:
                    score = answer.uncertainty.hybridgrad
                    one.expected[at] = (answer.draft, score, answer.usage.prompt_tokens)
        scores = sorted(score for _, score, _ in one.expected.values())
        one.write_policy(scores[len(scores) // 2])
        return one

    @property
    def policy(self):
        return self.folder / "policy.yaml"

    @property
    def observing(self):
        return self.folder / "observing.yaml"

    @property
    def log(self):
        return self.folder / "decisions.jsonl"

    @property
    def queue(self):
        return HumanQueue(f"sqlite:///{self.folder}/queue.db")

    def write_policy(self, limit):
        text = {
            "version": 1,
            "name": "load",
            "rules": [
                {
                    "id": "unsure",
                    "when": {"uncertainty": {"hybridgrad": {"gt": limit}}},
                    "action": "escalate",
                    "to": "human",
                },
                {"id": "sure", "action": "pass"},
            ],
            "escalation": {"human": {"queue": f"sqlite:///{self.folder}/queue.db"}},
            "log": {"file": str(self.log), "text": "hash"},
        }
        self.policy.write_text(json.dumps(text))
        plain = {"version": 1, "name": "plain", "rules": [{"id": "all", "action": "pass"}]}
        self.observing.write_text(json.dumps(plain))

    def questions(self, count):
        """As many questions, all of them in turn."""
        asked = [*self.expected]
        return [asked[at % len(asked)] for at in range(count)]

    def problem(self, at, body):
        """What is wrong with the answer to a question; empty where it is that question's own."""
        draft, score, prompt_tokens = self.expected[at]
        verdict, choice = body["guardrail"], body["choices"][0]
        if not isclose(verdict["scores"]["hybridgrad"], score, rel_tol=_TOLERANCE):
            return f"hybridgrad {verdict['scores']['hybridgrad']} is not {score}"
        if body["usage"]["prompt_tokens"] != prompt_tokens:
            return "the prompt has other tokens"
        if verdict["action"] == "pass":
            return "" if choice["message"]["content"] == draft else "the answer is another's"
        if verdict["action"] != "escalate" or choice["finish_reason"] != "content_filter":
            return f"the action is {verdict['action']}"
        return "" if verdict["escalation"]["ticket"] else "there is no ticket"

    def unrecorded(self, answered):
        """Of answers that clients have (question and verdict), those that log or queue do not have whole."""
        records = {record["request"]: record for record in read_decisions(self.log)}
        waiting = {item.ticket: item for item in self.queue.items()}
        lost = []
        for at, verdict in answered:
            record = records.get(verdict["request"])
            asked = json.dumps(messages(at), sort_keys=True)
            is_whole = (
                record is not None
                and record["question"] == text_digest(verdict["request"], asked)
                and record["action"] == verdict["action"]
            )
            if verdict["action"] == "escalate":
                item = waiting.get(verdict["escalation"]["ticket"])
                is_whole &= item is not None and not item.problem and item.case.messages == messages(at)
            if not is_whole:
                lost.append(at)
        return lost


@contextmanager
def process(deployment, *options, policy=None):
    """A server process over a deployment, and its URL."""
    command = [sys.executable, "-m", "guardrail", "serve", "--port", "0", *options]
    command += ["--policy", str(policy or deployment.policy), "--model", str(deployment.folder / "tiny")]
    errors = deployment.folder / "serve.log"
    with (
        errors.open("w") as log,
        subprocess.Popen(command, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"}) as server,
    ):
        try:
            while not (found := re.search(r'"serving".*"port": (\d+)', errors.read_text())):
                assert server.poll() is None, errors.read_text()
                asyncio.run(asyncio.sleep(0.1))
            url = f"http://127.0.0.1:{found[1]}"
            httpx.get(f"{url}/readyz", timeout=300)
            yield server, url
        finally:
            if server.poll() is None:
                server.send_signal(signal.SIGTERM)


@dataclass
class Outcomes:
    """What came of many requests.

    Attributes:
        statuses: How often each status, or way to end without one, came.
        seconds: Of each answer.
        answered: Question and verdict of each answer.
        wrong: What was not the answer to its own question.
    """

    statuses: Counter = field(default_factory=Counter)
    seconds: list = field(default_factory=list)
    answered: list = field(default_factory=list)
    wrong: list = field(default_factory=list)

    def percentile(self, share):
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(share * len(self.seconds)))]


async def ask(client, deployment, outcomes, at, *, gone_after=None, timeout=None):
    """Ask one question; leave after a while, or give up by the client's own time-out, where given."""
    body = {"model": "tiny", "messages": messages(at), "max_tokens": TOKENS}
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(gone_after):
            response = await client.post(CHAT, json=body, timeout=timeout or 600)
    except TimeoutError:
        outcomes.statuses["left"] += 1
        return
    except httpx.TimeoutException:
        outcomes.statuses["timed out"] += 1
        return
    except httpx.TransportError:
        outcomes.statuses["cut off"] += 1
        return
    outcomes.statuses[response.status_code] += 1
    if response.status_code != 200:
        return
    outcomes.seconds.append(loop.time() - began)
    outcomes.answered.append((at, response.json()["guardrail"]))
    if problem := deployment.problem(at, response.json()):
        outcomes.wrong.append((at, problem))


async def ask_all(url, deployment, wanted, clients, outcomes=None):
    """Ask by as many clients as given at once; ``wanted`` yields a question and how its client behaves."""
    outcomes = outcomes or Outcomes()
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    gate = asyncio.Semaphore(clients)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=600) as client:

        async def one(at, how):
            async with gate:
                await ask(client, deployment, outcomes, at, **how)

        await asyncio.gather(*(one(at, how) for at, how in wanted))
    return outcomes
