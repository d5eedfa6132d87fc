"""Many clients of one server process: each gets its own answer, and what was given is recorded."""

import asyncio
import random

import pytest

from tests.support.load import Deployment, Outcomes, ask_all, process

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

CLIENTS = 60


def test_answers_are_not_mixed_up_or_lost_among_clients_that_leave_or_when_the_process_is_killed(tmp_path):
    deployment = Deployment.made(tmp_path, 48)
    draw = random.Random(1)
    asked = deployment.questions(CLIENTS)
    hows = [{"gone_after": draw.uniform(0, 1)} if at % 3 == 0 else {} for at in range(CLIENTS)]
    with process(deployment, "--max-waiting", "200") as (server, url):
        outcomes = asyncio.run(ask_all(url, deployment, list(zip(asked, hows, strict=True)), CLIENTS))
        assert not outcomes.wrong
        assert outcomes.statuses[200] + outcomes.statuses["left"] == CLIENTS
        assert outcomes.statuses[200] >= CLIENTS * 2 // 3
        assert deployment.unrecorded(outcomes.answered) == []
        killed = asyncio.run(_killed_within(server, url, deployment))
        server.wait()
    assert killed.statuses["cut off"]
    assert not killed.wrong
    assert deployment.unrecorded(killed.answered) == []
    assert {verdict["action"] for _, verdict in outcomes.answered} == {"pass", "escalate"}


async def _killed_within(server, url, deployment):
    outcomes = Outcomes()
    wanted = [(at, {}) for at in deployment.questions(400)]
    asking = asyncio.ensure_future(ask_all(url, deployment, wanted, 16, outcomes))
    while len(outcomes.answered) < 20:
        await asyncio.sleep(0.01)
    server.kill()
    return await asking
