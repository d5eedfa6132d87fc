"""Against a hub made of a folder and Python's HTTP server, with the real hub client in between."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from safetensors.numpy import save_file

import guardrail

COMMIT = "c" * 40
REPOSITORY = "owner/tiny"
# What a user may have set, that leads the client away from the fake hub.
_ELSEWHERE = {"HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}

CLIENT = """
import json, sys
from guardrail.errors import GuardrailError
from guardrail.models.files.reference import ModelReference
from guardrail.models.files.downloads import hub_folder
stages = []
try:
    folder = hub_folder(
        ModelReference.parse(sys.argv[1]), lambda *seen: stages.append(seen), with_code="code" in sys.argv
    )
    print(json.dumps({"folder": str(folder), "stages": stages}))
except GuardrailError as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}))
"""


class FakeHub:
    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.status = 200
        self.error_code = ""
        self.requests: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, body: bytes, headers: dict[str, str], *, status: int = 200) -> None:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def do_GET(self) -> None:
                path = unquote(urlsplit(self.path).path)
                hub.requests.append(f"{self.command} {path}")
                if hub.status != 200:
                    self.answer(b"{}", {"X-Error-Code": hub.error_code}, status=hub.status)
                elif path.startswith(f"/api/models/{REPOSITORY}/tree/"):
                    self.answer(json.dumps(hub.tree()).encode(), {"Content-Type": "application/json"})
                elif path.startswith(f"/api/models/{REPOSITORY}"):
                    self.answer(json.dumps(hub.info()).encode(), {"Content-Type": "application/json"})
                elif (name := path.removeprefix(f"/{REPOSITORY}/resolve/{COMMIT}/")) in hub.files:
                    headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hub.etag(name)}"'}
                    self.answer(hub.files[name], headers)
                else:
                    self.answer(b"", {"X-Error-Code": "EntryNotFound"}, status=404)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def etag(self, name: str) -> str:
        return hashlib.sha1(self.files[name]).hexdigest()

    def info(self) -> dict:
        siblings = [{"rfilename": name, "size": len(content)} for name, content in self.files.items()]
        return {"id": REPOSITORY, "sha": COMMIT, "siblings": siblings}

    def tree(self) -> list[dict]:
        return [
            {"type": "file", "path": name, "size": len(content), "oid": self.etag(name)}
            for name, content in self.files.items()
        ]

    def downloads(self) -> set[str]:
        prefix = f"GET /{REPOSITORY}/resolve/{COMMIT}/"
        return {request.removeprefix(prefix) for request in self.requests if request.startswith(prefix)}


def tensors(tmp_path: Path, *names: str) -> bytes:
    save_file({name: np.zeros(8, np.float32) for name in names}, tmp_path / "made")
    return (tmp_path / "made").read_bytes()


@pytest.fixture
def hub(tmp_path):
    hub = FakeHub()
    hub.files = {
        "config.json": b'{"model_type": "llama"}',
        "tokenizer.json": b"{}",
        "model.safetensors": tensors(tmp_path, "a"),
        "README.md": b"read me",
        "modeling_tiny.py": b"raise SystemExit",
    }
    thread = threading.Thread(target=hub.server.serve_forever, daemon=True)
    thread.start()
    yield hub
    hub.server.shutdown()
    hub.server.server_close()
    thread.join(10)


@pytest.fixture
def pull(tmp_path):
    def run(name: str = REPOSITORY, *arguments: str, endpoint: str, **extra: str) -> dict:
        # Whoever runs the tests may be offline, and the fake hub is asked all the same.
        environment = {
            **{name: value for name, value in os.environ.items() if name not in _ELSEWHERE},
            "PYTHONPATH": str(Path(guardrail.__file__).parents[1]),
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(tmp_path / "hf"),
            "NO_PROXY": "127.0.0.1",
            **extra,
        }
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", CLIENT, name, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert result.stderr == ""
        return json.loads(result.stdout)

    return run


@pytest.fixture
def nowhere():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def names(answer: dict) -> set[str]:
    return {path.name for path in Path(answer["folder"]).iterdir()}


def test_weights_configuration_and_tokenizer_are_downloaded_and_nothing_else(hub, pull):
    hub.files |= {
        "pytorch_model.bin": b"pickle",
        "model.fp16.safetensors": b"variant",
        "consolidated.safetensors": b"other layout",
        "onnx/model.json": b"{}",
        "original/model.safetensors": b"x",
    }
    answer = pull(endpoint=hub.endpoint)
    assert names(answer) == {"config.json", "tokenizer.json", "model.safetensors"}
    assert (Path(answer["folder"]) / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert hub.downloads() == names(answer)


def test_the_download_is_reported_in_bytes_up_to_the_whole(hub, pull):
    stages = [
        seen for seen in pull(endpoint=hub.endpoint)["stages"] if seen[0] == f"downloading {REPOSITORY}"
    ]
    whole = sum(len(hub.files[name]) for name in ("config.json", "tokenizer.json", "model.safetensors"))
    assert stages[0][1:] == [0, whole]
    assert stages[-1][1:] == [whole, whole]


def test_of_sharded_weights_the_shards_that_the_index_names_are_downloaded(hub, pull, tmp_path):
    hub.files["part-1.safetensors"] = hub.files.pop("model.safetensors")
    hub.files["part-2.safetensors"] = tensors(tmp_path, "b")
    hub.files["other.safetensors"] = b"x"
    index = {"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}}
    hub.files["model.safetensors.index.json"] = json.dumps(index).encode()
    answer = pull(endpoint=hub.endpoint)
    assert names(answer) >= {"part-1.safetensors", "part-2.safetensors"}
    assert "other.safetensors" not in names(answer)


def test_the_models_code_is_downloaded_only_where_it_may_be_run(hub, pull):
    hub.files["config.json"] = b'{"model_type": "tiny", "auto_map": {"AutoConfig": "modeling_tiny.Config"}}'
    assert "modeling_tiny.py" not in names(pull(endpoint=hub.endpoint))
    assert "modeling_tiny.py" in names(pull(REPOSITORY, "code", endpoint=hub.endpoint))


def test_what_was_downloaded_is_used_when_the_hub_is_out_of_reach(hub, pull, nowhere):
    first = pull(endpoint=hub.endpoint)
    assert pull(endpoint=nowhere)["folder"] == first["folder"]
    assert pull(endpoint=nowhere, HF_HUB_OFFLINE="1")["folder"] == first["folder"]


def test_what_was_downloaded_costs_one_question_to_the_hub(hub, pull):
    first = pull(endpoint=hub.endpoint)
    hub.requests.clear()
    assert pull(endpoint=hub.endpoint)["folder"] == first["folder"]
    # The client also asks for things of its own, such as a list of the agents it might be run by.
    asked = [request for request in hub.requests if REPOSITORY in request]
    assert asked == [f"GET /api/models/{REPOSITORY}"]


def test_a_full_commit_in_the_cache_is_opened_without_asking_the_hub(hub, pull):
    first = pull(f"{REPOSITORY}@{COMMIT}", endpoint=hub.endpoint)
    hub.requests.clear()
    assert pull(f"{REPOSITORY}@{COMMIT}", endpoint=hub.endpoint)["folder"] == first["folder"]
    assert hub.requests == []


def test_a_snapshot_with_a_missing_file_is_completed_or_refused(hub, pull, nowhere):
    folder = Path(pull(endpoint=hub.endpoint)["folder"])
    (folder / "model.safetensors").unlink()
    assert pull(endpoint=nowhere)["error"] == "ModelUnavailableError"
    assert pull(endpoint=hub.endpoint)["folder"] == str(folder)
    assert (folder / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


@pytest.mark.parametrize(
    ("revision", "status", "code", "error", "says"),
    [
        ("", 401, "RepoNotFound", "ModelReferenceError", "hf auth login"),
        ("", 404, "RepoNotFound", "ModelReferenceError", "check the spelling"),
        ("", 403, "GatedRepo", "ModelUnavailableError", "is gated: accept its terms"),
        ("@v9", 404, "RevisionNotFound", "ModelReferenceError", "has no revision 'v9'"),
        ("", 503, "", "ModelUnavailableError", "answered with status 503"),
    ],
)
def test_each_refusal_of_the_hub_says_what_to_do(revision, status, code, error, says, hub, pull):
    hub.status, hub.error_code = status, code
    answer = pull(REPOSITORY + revision, endpoint=hub.endpoint)
    assert answer["error"] == error
    assert says in answer["message"]
    assert "\n" not in answer["message"]


def test_pickled_weights_are_refused_before_anything_is_downloaded(hub, pull):
    hub.files["pytorch_model.bin"] = hub.files.pop("model.safetensors")
    answer = pull(endpoint=hub.endpoint)
    assert answer["error"] == "UnsafeModelError"
    assert "pytorch_model.bin" in answer["message"]
    assert hub.downloads() == set()


def test_a_repository_of_gguf_files_is_refused_with_the_way_to_open_one(hub, pull):
    del hub.files["model.safetensors"]
    hub.files["tiny.Q4.gguf"] = b"GGUF"
    answer = pull(endpoint=hub.endpoint)
    assert answer["error"] == "ModelReferenceError"
    assert "tiny.Q4.gguf" in answer["message"]


def test_a_hub_out_of_reach_is_one_clear_error_within_seconds(pull, nowhere):
    started = time.monotonic()
    answer = pull("owner/name@main", endpoint=nowhere)
    assert time.monotonic() - started < 5
    assert answer["error"] == "ModelUnavailableError"
    for needle in ("owner/name@main", nowhere, "neither", "HF_ENDPOINT", "local folder"):
        assert needle in answer["message"]


@pytest.mark.slow
def test_a_hub_that_takes_the_call_and_never_answers_is_given_up_within_seconds(pull):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        answer = pull(endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - started < 9
    assert answer["error"] == "ModelUnavailableError"


def test_offline_an_unknown_model_is_refused_without_asking(hub, pull):
    answer = pull(endpoint=hub.endpoint, HF_HUB_OFFLINE="1")
    assert answer["error"] == "ModelUnavailableError"
    assert "HF_HUB_OFFLINE" in answer["message"]
    assert hub.requests == []
