"""An OpenAI-compatible inference server over a tiny model, with faults that can be switched on."""

import asyncio
import json
import socket
import threading
import time
from contextlib import contextmanager

import uvicorn

from guardrail.models.sampling import Sampling

# Marks what is said where it must not be seen.
LEAKED = "Ouagadougou"
# What a client in the tests reads at most.
LARGEST = 2**18


class InferenceServer:
    """Answers ``GET /v1/models`` and ``POST /v1/chat/completions`` as vLLM does, by a local model.

    Args:
        model: Generates, and is read for its own log-probabilities.
        knows: Fields of a request beyond OpenAI's that it follows: ``return_token_ids``, ``logprobs``.
        refuses: Fields that it answers with status 400.
        key: What clients have to know.
    """

    def __init__(self, model, knows=("return_token_ids", "logprobs"), refuses=(), key=None):
        self.model, self.served, self.knows, self.refuses, self.key = model, model.name, knows, refuses, key
        self.fault = None
        self.asked = []
        self.changes = {}
        self.began = threading.Event()
        self.left = threading.Event()

    def renewed(self):
        """The same, without faults and as if nobody had asked."""
        self.fault, self.changes = None, {}
        self.asked.clear()
        self.began.clear()
        self.left.clear()
        return self

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if self.key is not None and headers.get(b"authorization") != f"Bearer {self.key}".encode():
            await self._json(send, {"error": {"message": LEAKED}}, 401)
        elif scope["path"] == "/v1/models":
            names = self.changes.get("models", [self.served])
            await self._json(send, {"object": "list", "data": [{"id": name} for name in names]})
        else:
            await self._chat(json.loads(body), receive, send)

    async def _chat(self, asked, receive, send):
        self.asked.append(json.loads(json.dumps(asked)))
        if refused := [name for name in self.refuses if name in asked]:
            await self._json(send, {"error": {"message": f"unknown {refused} {LEAKED}"}}, 400)
            return
        is_probe = asked["messages"] == [{"role": "user", "content": "Hello"}]
        if self.fault is not None and not is_probe:
            await FAULTS[self.fault](self, asked, receive, send)
            return
        await self._json(send, await asyncio.to_thread(self.completion, asked))

    def completion(self, asked):
        """A real answer of the model, in vLLM's form."""
        model = self.model
        sampling = Sampling(
            max_tokens=asked["max_tokens"],
            temperature=asked.get("temperature", 0.0),
            top_p=asked.get("top_p", 1.0),
            seed=asked.get("seed"),
            stop=tuple(asked.get("stop", ())),
        )
        messages = [dict(message) for message in asked["messages"]]
        for call in (call for message in messages for call in message.get("tool_calls", ())):
            call["function"] = {**call["function"], "arguments": json.loads(call["function"]["arguments"])}
        encoded = model.encode_prompt(messages, asked.get("tools", ()), asked.get("chat_template_kwargs"))
        (trace,) = model.generate_encoded([encoded], sampling)
        trace.release()
        ids = self.changes.get("ids", trace.response_ids)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": self.changes.get("content", trace.text)},
            "finish_reason": self.changes.get("finish_reason", trace.finish_reason),
            "logprobs": None,
        }
        choice["message"] |= self.changes.get("message", {})
        told = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": self.changes.get("model", self.served),
        }
        if asked.get("logprobs") and "logprobs" in self.knows:
            values = self.changes.get("logprobs", trace.log_probabilities)
            entries = zip(trace.token_texts, values, strict=False)
            choice["logprobs"] = {"content": [{"token": text, "logprob": value} for text, value in entries]}
        if asked.get("return_token_ids") and "return_token_ids" in self.knows:
            choice["token_ids"] = ids
            told["prompt_token_ids"] = self.changes.get("prompt_ids", encoded.ids)
        return {**told, "choices": [choice]}

    async def _json(self, send, value, status=200, **headers):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        await self._whole(send, body, status, headers)

    async def _whole(self, send, body, status=200, headers=None, kind=b"application/json"):
        given = {"content-type": kind, **(headers or {})}
        pairs = [(k.replace("_", "-").encode(), v) for k, v in given.items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": body})


def _status(status, **headers):
    async def fault(server, asked, receive, send):
        await server._json(send, {"error": {"message": LEAKED}, "choices": [LEAKED]}, status, **headers)

    return fault


def _changed(change):
    """A whole completion, with one thing in it that is not in order."""

    async def fault(server, asked, receive, send):
        told = await asyncio.to_thread(server.completion, asked)
        told["choices"][0]["message"]["content"] = LEAKED
        change(told)
        await server._json(send, json.dumps(told).encode())

    return fault


def _choice(**fields):
    return _changed(lambda told: told["choices"][0].update(fields))


async def _hang(server, asked, receive, send):
    server.began.set()
    while (await receive())["type"] != "http.disconnect":
        pass
    server.left.set()


async def _half(server, asked, receive, send):
    body = json.dumps(await asyncio.to_thread(server.completion, asked)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
    raise ConnectionAbortedError


async def _cut(server, asked, receive, send):
    body = json.dumps(await asyncio.to_thread(server.completion, asked)).encode()
    await server._json(send, body[:-9])


async def _stream(server, asked, receive, send):
    events = f'data: {{"choices": [{{"delta": {{"content": "{LEAKED}"}}}}]}}\n\n'.encode()
    await server._whole(send, events, kind=b"text/event-stream")


async def _html(server, asked, receive, send):
    await server._whole(send, f"<h1>{LEAKED}</h1>".encode(), kind=b"text/html")


async def _huge(server, asked, receive, send):
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    try:
        for _ in range(4 * LARGEST // 2**14):
            await send({"type": "http.response.body", "body": b" " * 2**14, "more_body": True})
        await send({"type": "http.response.body", "body": b"{}"})
    except OSError:
        server.left.set()


async def _gzip(server, asked, receive, send):
    await server._whole(send, b"\x1f\x8b", headers={"content_encoding": b"gzip"})


def _drop(name):
    return _changed(lambda told: told["choices"][0].pop(name))


FAULTS = {
    "500": _status(500),
    "503": _status(503, retry_after=b"1"),
    "429": _status(429),
    "401": _status(401),
    "redirect": _status(307, location=b"http://127.0.0.1:1/v1/chat/completions"),
    "hang": _hang,
    "half": _half,
    "cut JSON": _cut,
    "event stream": _stream,
    "HTML": _html,
    "huge": _huge,
    "gzip": _gzip,
    "no choices": _changed(lambda told: told.update(choices=[])),
    "two choices": _changed(lambda told: told.update(choices=told["choices"] * 2)),
    "no message": _drop("message"),
    "NaN": _choice(logprobs={"content": [{"token": "a", "logprob": float("nan")}]}),
    "probability above 1": _choice(logprobs={"content": [{"token": "a", "logprob": 0.5}]}),
    "no log-probabilities": _drop("logprobs"),
    "no token ids": _drop("token_ids"),
    "ids of another text": _choice(token_ids=[20, 21, 22]),
    "ids that are none": _choice(token_ids=[20, -1]),
    "ids beyond the vocabulary": _choice(token_ids=[10**6], message={"role": "assistant", "content": ""}),
    "text for an id": _choice(token_ids=[20, "21"]),
    "aborted": _choice(finish_reason="abort"),
    "filtered": _choice(finish_reason="content_filter"),
    "refused": _choice(message={"role": "assistant", "content": None, "refusal": LEAKED}),
    "longer than asked": _choice(token_ids=[20] * 400, message={"role": "assistant", "content": ""}),
}


@contextmanager
def inference_server(model, **options):
    """Run one; gives it with its ``url``."""
    server = InferenceServer(model, **options)
    config = uvicorn.Config(server, log_config=None, access_log=False, ws="none", lifespan="off")
    runner = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=runner.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            until = time.monotonic() + 30
            while not runner.started and time.monotonic() < until:
                time.sleep(0.01)
            server.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
            yield server
        finally:
            runner.should_exit = True
            runner.force_exit = True
            thread.join()
