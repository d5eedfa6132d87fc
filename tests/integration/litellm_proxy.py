"""A real LiteLLM proxy in front of a real model, with the guard as its guardrail: what its clients see.

LiteLLM has an environment of its own; from the root of the repository, with guardrail's:

    python -m venv /tmp/litellm && /tmp/litellm/bin/pip install "litellm[proxy]"
    python -m tests.integration.litellm_proxy /tmp/litellm/bin/litellm [--record FOLDER]

The model is a tiny one behind another server. It prints, for each setting, what a client gets, whole and as a
stream, and how much of a withheld draft it has seen. It ends with status 1 where that is any at a setting
that docs/how-to/litellm.md calls safe. --record writes the bodies that the proxy sent.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from guardrail.models.sampling import Sampling
from guardrail.server.litellm_protocol import GATEWAY_PATH
from tests.support.chat_models import ABSTAIN, calling_model
from tests.support.guards import ASKED, PASS, tiny
from tests.support.serving import serving

KEY = "sk-0123456789abcdef"
TOKENS = 40
FLAG = {"id": "warn", "action": "flag", "message": "Please check this answer."}
LIVE = {"streaming": "annotate", "on_uncalibrated": "flag", "on_outside_domain": "flag"}
BOTH = ["pre_call", "post_call"]
STREAMING = {
    "as it comes": {},
    "end only": {"streaming_end_of_stream_only": True},
    "buffer": {"streaming_buffer_until_moderated": True},
    "diff at end": {"streaming_transform_mode": "incremental_diff", "streaming_end_of_stream_only": True},
}
# Those at which a client sees nothing of a withheld text before the guard decides.
SAFE = ("buffer", "diff at end")
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"day": {"enum": ["now", "later"]}},
            "required": ["day"],
        },
    },
}


@contextmanager
def running(app):
    """An app on loopback; gives its address."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def recorder(url, kept):
    """An app that hands on what it is sent to the guard, and keeps it."""

    async def hand_on(request):
        body = await request.body()
        async with httpx.AsyncClient(timeout=120) as client:
            told = await client.post(f"{url}{GATEWAY_PATH}", content=body, headers=dict(request.headers))
        kept.append((json.loads(body), told.json()))
        return Response(told.content, told.status_code, media_type="application/json")

    return Starlette(routes=[Route(GATEWAY_PATH, hand_on, methods=["POST"])])


def guardrail_entry(name, url, options=None, mode=None, **streaming):
    return {
        "guardrail_name": name,
        "litellm_params": {
            "guardrail": "generic_guardrail_api",
            "mode": mode or BOTH,
            "api_base": url,
            "additional_provider_specific_params": options or {},
            **streaming,
        },
    }


@contextmanager
def proxy(litellm, models, guardrails, folder):
    """LiteLLM on loopback; gives a client of it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = {
        "model_list": [
            {
                "model_name": name,
                "litellm_params": {"model": f"openai/{model}", "api_base": f"{url}/v1", "api_key": "none"},
            }
            for name, (model, url) in models.items()
        ],
        "guardrails": guardrails,
        "general_settings": {"master_key": KEY},
        "litellm_settings": {"telemetry": False, "num_retries": 0},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    log = (folder / "litellm.log").open("w")
    process = subprocess.Popen(
        [litellm, "--config", str(folder / "config.yaml"), "--host", "127.0.0.1", "--port", str(port)],
        stdout=log,
        stderr=log,
        env={**os.environ, "PYTHONPATH": "", "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
    )
    try:
        headers = {"authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, headers=headers) as client:
            for _ in range(1200):
                try:
                    if client.get("/health/liveliness").status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.5)
                if process.poll() is not None:
                    sys.exit((folder / "litellm.log").read_text()[-3000:])
            yield client
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def ask(client, guardrail, model="small", **fields):
    body = {
        "model": model,
        "messages": [{"role": "user", "content": ASKED}],
        "max_tokens": TOKENS,
        "guardrails": [guardrail],
        **fields,
    }
    response = client.post("/v1/chat/completions", json=body)
    return response.status_code, response.text


def text_of(said):
    """The answer's text in a body, whole or of a stream."""
    if not said.startswith("data:"):
        choices = json.loads(said).get("choices") or [{"message": {}}]
        return choices[0]["message"].get("content") or ""
    events = [line[6:] for line in said.splitlines() if line.startswith("data: {")]
    deltas = [one["delta"] for event in events for one in json.loads(event).get("choices") or []]
    return "".join(delta.get("content") or "" for delta in deltas)


def seen_of(draft, said):
    """How much of a draft stands at the beginning of what a client was told, 0 to 1."""
    text = text_of(said)
    same = next((at for at, (a, b) in enumerate(zip(draft, text, strict=False)) if a != b), None)
    length = min(len(draft), len(text)) if same is None else same
    return length / len(draft)


def main():
    """Run everything once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("litellm", help="LiteLLM's command")
    parser.add_argument("--record", type=Path, help="folder for the bodies that the proxy sent")
    given = parser.parse_args()
    draft = tiny().generate(ASKED, Sampling(max_tokens=TOKENS)).text
    recorded, failed = {}, []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model = stack.enter_context(serving(PASS, policy=LIVE))
        caller = stack.enter_context(serving(PASS, model=calling_model()))
        guardrails = []
        for name, rule in (("pass", PASS), ("flag", FLAG), ("abstain", ABSTAIN)):
            served = stack.enter_context(serving(rule))
            recorded[name] = []
            url = stack.enter_context(running(recorder(served.url, recorded[name])))
            for setting, streaming in STREAMING.items():
                guardrails.append(
                    guardrail_entry(f"{name}, {setting}", url, {"flagged": "warn"}, **streaming)
                )
            guardrails.append(guardrail_entry(f"{name}, no question", url, mode=["post_call"]))
        guardrails.append(guardrail_entry("nobody there", "http://127.0.0.1:9"))
        models = {"small": ("tiny", model.url), "caller": ("caller", caller.url)}
        client = stack.enter_context(proxy(given.litellm, models, guardrails, folder))
        for name in recorded:
            for setting in STREAMING:
                guardrail = f"{name}, {setting}"
                (status, whole), (streamed_status, streamed) = (
                    ask(client, guardrail, stream=stream) for stream in (False, True)
                )
                seen = [seen_of(draft, said) if said else 0.0 for said in (whole, streamed)]
                print(f"{guardrail:22} whole {status} {text_of(whole)[-40:]!r:46} draft {seen[0]:.0%}")
                print(f"{'':22} stream {streamed_status} {streamed[-230:]!r} draft {seen[1]:.0%}")
                if name == "abstain" and (seen[0] or (setting in SAFE and seen[1])):
                    failed.append(guardrail)
                if name == "pass" and seen != [1, 1]:
                    failed.append(guardrail)
            print(name, "without the question:", *ask(client, f"{name}, no question"))
        print("nobody there:", *ask(client, "nobody there"))
        print("several answers:", *ask(client, "pass, buffer", n=2))
        must = {"model": "caller", "tools": [TOOL], "tool_choice": "required", "max_tokens": 200}
        for guardrail in ("pass, buffer", "flag, buffer", "abstain, buffer", "abstain, diff at end"):
            for stream in (False, True):
                print(
                    f"a call, {guardrail}, stream {stream}:", *ask(client, guardrail, **must, stream=stream)
                )
        image = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
        print("an image:", *ask(client, "pass, buffer", messages=[{"role": "user", "content": image}]))
    if given.record:
        given.record.mkdir(parents=True, exist_ok=True)
        for name, kept in recorded.items():
            (given.record / f"{name}.json").write_text(json.dumps(kept, indent=1))
    print("failed:", failed or "nothing")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
