"""How many answers a second one local model gives to many callers, beside one caller at a time.

    python tests/benchmarks/concurrency.py --prompts 200 --max-tokens 12

Every prompt is asked three times: one after the other, over 50 threads, and as tasks of an event loop. It is
also looked at whether each got its own answer, with the confidence that it has alone.
"""

import argparse
import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import torch

from guardrail.langchain import ChatGuardrail, verdict_of
from guardrail.policy.load import load_policy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--max-tokens", type=int, default=12)
    parser.add_argument("--threads", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=8)
    arguments = parser.parse_args()
    policy = load_policy("builtin:default").model_copy(update={"mode": "observe"})
    chat = ChatGuardrail(policy=policy, max_tokens=arguments.max_tokens, batch_size=arguments.batch_size)
    questions = [f"What is {at} plus {at % 7 + 2}?" for at in range(arguments.prompts)]
    chat.batch(questions[:8])

    began = time.perf_counter()
    alone = [chat.invoke(question) for question in questions]
    alone_s = time.perf_counter() - began

    began = time.perf_counter()
    with ThreadPoolExecutor(arguments.threads) as pool:
        threaded = list(pool.map(chat.invoke, questions))
    threads_s = time.perf_counter() - began

    async def all_at_once():
        return await asyncio.gather(*map(chat.ainvoke, questions))

    began = time.perf_counter()
    tasks = asyncio.run(all_at_once())
    tasks_s = time.perf_counter() - began

    tokens = sum(message.usage_metadata["output_tokens"] for message in alone)
    print(f"{arguments.prompts} prompts, {tokens / arguments.prompts:.1f} tokens an answer, float32,")
    print(f"{torch.get_num_threads()} threads of torch, batches of up to {arguments.batch_size}")
    ways = (("one at a time", alone_s, alone), ("threads", threads_s, threaded), ("tasks", tasks_s, tasks))
    for name, seconds, messages in ways:
        pairs = list(zip(alone, messages, strict=True))
        same = sum(one.content == other.content for one, other in pairs)
        apart = max(abs(_confidence(one) - _confidence(other)) for one, other in pairs)
        print(
            f"{name:14} {seconds:7.1f} s {arguments.prompts / seconds:6.2f} answers/s "
            f"{alone_s / seconds:5.2f} times; {same} answers the same, confidences at most {apart:.1e} apart"
        )


def _confidence(message: object) -> float:
    return float(verdict_of(message)["confidence"])


if __name__ == "__main__":
    main()
