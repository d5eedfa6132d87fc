"""What the HTTP layer adds to an answer: the same questions by HTTP and by ``Guard.aask``, in one process.

    python -m tests.benchmarks.http_overhead --pairs 300

A tiny model, so that what is around it shows. Each question is asked both ways, one right after the other, in
an order that alternates; the client is one connection that stays open.
"""

import argparse
import asyncio
import http.client
import json
import statistics
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
    seconds = {"HTTP": [], "aask": []}
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
            scores = []
            for name, ask in ways if at % 2 else ways[::-1]:
                began = time.perf_counter()
                scores.append(ask(f"How many are {at} and {at}?"))
                if at >= 0:
                    seconds[name].append(time.perf_counter() - began)
            assert scores[0] == scores[1]
    for name, each in seconds.items():
        print(f"{name}: median {1000 * statistics.median(each):.2f} ms, mean {1000 * np.mean(each):.2f} ms")
    added = 1000 * (np.array(seconds["HTTP"]) - np.array(seconds["aask"]))
    draws = np.random.default_rng(0).choice(added, (2000, pairs))
    for name, value, drawn in (
        ("median", np.median(added), np.median(draws, axis=1)),
        ("mean", added.mean(), draws.mean(axis=1)),
    ):
        low, high = np.percentile(drawn, [2.5, 97.5])
        print(
            f"added by HTTP, {name} of {pairs} pairs: {value:.2f} ms, 95 % interval {low:.2f} to {high:.2f}"
        )


if __name__ == "__main__":
    main()
