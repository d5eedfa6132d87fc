"""What the HTTP layer adds to an answer: the same questions by HTTP and by ``Guard.aask``, in one process.

    python -m tests.benchmarks.http_overhead --pairs 300

A tiny model, so that what is around it shows. Each question is asked both ways, one right after the other, in
an order that alternates; the client connects before the time is taken. Time by the clock, and of the
processor: the process is client and server, so that this is more than the server adds, but no other process
changes it.
"""

import argparse
import asyncio
import http.client
import json
import time
from urllib.parse import urlsplit

import numpy as np
import torch

from guardrail.models.sampling import Sampling
from tests.support.guards import PASS
from tests.support.serving import CHAT, serving

TOKENS = 4


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=300)
    pairs = parser.parse_args().pairs
    torch.set_num_threads(1)
    clocks = {"by the clock": time.perf_counter, "of the processor": time.process_time}
    seconds = {name: {clock: [] for clock in clocks} for name in ("HTTP", "aask")}
    with serving(PASS) as served, asyncio.Runner() as runner:
        address = urlsplit(served.url)
        connection = http.client.HTTPConnection(address.hostname, address.port)

        def by_http(text):
            asked = {"model": "tiny", "messages": [{"role": "user", "content": text}], "max_tokens": TOKENS}
            connection.request("POST", CHAT, json.dumps(asked), {"content-type": "application/json"})
            body = json.loads(connection.getresponse().read())
            return body["guardrail"]["scores"]

        def in_process(text):
            answer = runner.run(served.guard.aask(text, Sampling(max_tokens=TOKENS)))
            return answer.as_plain()["scores"]

        for at in range(-20, pairs):
            ways = [("HTTP", by_http), ("aask", in_process)]
            # Otherwise the server may have closed it, on a busy machine.
            connection.close()
            connection.connect()
            scores = []
            for name, ask in ways if at % 2 else ways[::-1]:
                began = {clock: now() for clock, now in clocks.items()}
                scores.append(ask(f"How many are {at} and {at}?"))
                if at >= 0:
                    for clock, now in clocks.items():
                        seconds[name][clock].append(now() - began[clock])
            assert scores[0] == scores[1]
    for clock in clocks:
        told(clock, *(1000 * np.array(seconds[name][clock]) for name in ("HTTP", "aask")))


def told(clock, by_http, in_process):
    """Print medians in ms, and what HTTP adds with its interval."""
    print(f"{clock}: HTTP {np.median(by_http):.2f} ms, aask {np.median(in_process):.2f} ms (medians)")
    added = by_http - in_process
    draws = np.random.default_rng(0).choice(added, (2000, len(added)))
    for name, kind in (("median", np.median), ("mean", np.mean)):
        low, high = np.percentile(kind(draws, axis=1), [2.5, 97.5])
        print(
            f"  added, {name} of {len(added)} pairs: {kind(added):.2f} ms, "
            f"95 % interval {low:.2f} to {high:.2f}"
        )


if __name__ == "__main__":
    main()
