"""Whether a server process keeps its answers apart, its memory level and its records whole under load.

    python -m tests.benchmarks.http_load --at-once 500 --requests 5000

A tiny model, and a policy that sends half of the answers to a queue and writes a decision log. First that
many clients at once, a third of whom leave or give up in the middle; then requests by 32 clients, and the
memory before and after; then ``kill -9`` while 32 clients ask, and what is in queue and log of the answers
that had been given. Prints a table, and ends with 1 where an answer was another's or was lost.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.support.load import Deployment, Outcomes, ask_all, process

QUESTIONS = 512


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--at-once", type=int, default=500)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=8)
    arguments = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        deployment = Deployment.made(Path(folder), QUESTIONS)
        options = ["--max-waiting", str(2 * arguments.at_once), "--batch-size", str(arguments.batch_size)]
        options += ["--request-timeout", "600"]
        with process(deployment, *options) as (server, url):
            bad += at_once(url, deployment, arguments.at_once)
            bad += level(url, deployment, arguments.requests, arguments.clients, psutil.Process(server.pid))
        with process(deployment, *options) as (server, url):
            bad += killed(url, deployment, arguments.clients, server)
    sys.exit(bool(bad))


def at_once(url, deployment, count):
    draw = random.Random(0)

    def how():
        kind = draw.random()
        if kind < 1 / 6:
            return {"gone_after": draw.uniform(0, 5)}
        return {"timeout": draw.uniform(0.2, 5)} if kind < 1 / 3 else {}

    began = time.perf_counter()
    outcomes = asyncio.run(
        ask_all(url, deployment, [(at, how()) for at in deployment.questions(count)], count)
    )
    told(f"{count} at once", outcomes, time.perf_counter() - began)
    lost = deployment.unrecorded(outcomes.answered)
    print(
        f"  not in log or queue: {len(lost)}; answers of another: {len(outcomes.wrong)} {outcomes.wrong[:3]}"
    )
    return len(lost) + len(outcomes.wrong)


def level(url, deployment, count, clients, server):
    asyncio.run(ask_all(url, deployment, [(at, {}) for at in deployment.questions(500)], clients))
    sizes, outcomes, began = [memory(server)], Outcomes(), time.perf_counter()
    for begin in range(0, count, 500):
        some = [(at, {}) for at in deployment.questions(min(500, count - begin))]
        asyncio.run(ask_all(url, deployment, some, clients, outcomes))
        sizes.append(memory(server))
        print(f"  {begin + len(some)} requests: {sizes[-1]:.1f} MiB", flush=True)
    told(f"{count} by {clients} clients", outcomes, time.perf_counter() - began)
    print(f"  memory before and after: {sizes[0]:.1f} and {sizes[-1]:.1f} MiB")
    print(f"  answers of another: {len(outcomes.wrong)} {outcomes.wrong[:3]}")
    return len(outcomes.wrong)


def killed(url, deployment, clients, server):
    async def until_killed():
        outcomes = Outcomes()
        asking = asyncio.ensure_future(
            ask_all(url, deployment, [(at, {}) for at in deployment.questions(2000)], clients, outcomes)
        )
        while len(outcomes.answered) < 200:
            await asyncio.sleep(0.01)
        server.kill()
        return await asking

    outcomes = asyncio.run(until_killed())
    lost = deployment.unrecorded(outcomes.answered)
    print(f"kill -9: {len(outcomes.answered)} answers given before; not in log or queue: {len(lost)}")
    return len(lost) + len(outcomes.wrong)


def told(name, outcomes, seconds):
    print(f"{name}: {dict(outcomes.statuses)} in {seconds:.1f} s")
    at = [f"p{share * 100:.0f} {1000 * outcomes.percentile(share):.0f} ms" for share in (0.5, 0.95, 0.99)]
    print(f"  {len(outcomes.seconds) / seconds:.1f} answers/s, {', '.join(at)}", flush=True)


def memory(server):
    return server.memory_full_info().uss / 2**20


if __name__ == "__main__":
    main()
