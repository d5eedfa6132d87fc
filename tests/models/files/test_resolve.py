import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import guardrail
from guardrail.errors import ModelUnavailableError
from guardrail.models.files.resolve import MANIFEST, models_root, obtain, stored, stored_models

SOURCE = {"kind": "test", "bytes": 1}

# Builds slowly: writes half of the weights, logs that it began, waits, writes the rest.
BUILDER = """
import sys, time
from guardrail.models.files.resolve import obtain
log, seconds = sys.argv[1], float(sys.argv[2])
def build(folder, scratch):
    (folder / "weights").write_bytes(b"half")
    with open(log, "a") as stream:
        stream.write("began\\n")
    time.sleep(seconds)
    (folder / "weights").write_bytes(b"half and half")
print(obtain("model", {"kind": "test", "bytes": 1}, build))
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GUARDRAIL_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def build(folder, scratch):
    (folder / "weights").write_bytes(b"weights")
    (folder / "sub").mkdir()
    (folder / "sub" / "config").write_text("{}")
    (scratch / "download").write_bytes(b"x" * 1000)


def refuse_to_build(folder, scratch):
    raise AssertionError("built again")


def start_builder(log, seconds):
    environment = os.environ | {"PYTHONPATH": str(Path(guardrail.__file__).parents[1])}
    command = [sys.executable, "-c", BUILDER, str(log), str(seconds)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def wait_for(condition, seconds=20.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def test_a_model_is_built_once_and_holds_only_what_was_made(cache):
    folder = obtain("model", SOURCE, build)
    assert folder == cache / "models" / "model"
    made = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert made == [MANIFEST, "sub/config", "weights"]
    assert obtain("model", SOURCE, refuse_to_build) == folder


def test_without_the_variable_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.delenv("GUARDRAIL_CACHE_DIR")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "home-cache" / name)
    assert models_root() == tmp_path / "home-cache" / "guardrail" / "models"


def test_a_tilde_in_the_variable_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GUARDRAIL_CACHE_DIR", "~/here")
    assert models_root() == tmp_path / "here" / "models"


def test_a_build_that_fails_leaves_nothing_behind(cache):
    def fail(folder, scratch):
        build(folder, scratch)
        raise ModelUnavailableError("no connection")

    with pytest.raises(ModelUnavailableError, match="no connection"):
        obtain("model", SOURCE, fail)
    assert stored("model") is None
    assert not [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_an_interrupted_build_does_not_replace_the_model_that_is_there():
    folder = obtain("model", SOURCE, build)

    def interrupt(folder, scratch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        obtain("model", {"kind": "another"}, interrupt)
    assert (folder / "weights").read_bytes() == b"weights"
    obtain("model", SOURCE, refuse_to_build)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda folder: (folder / "weights").write_bytes(b"w"), "weights has 1 bytes instead of 7"),
        (lambda folder: (folder / "sub" / "config").unlink(), "sub/config is missing"),
        (lambda folder: (folder / MANIFEST).unlink(), "missing or cannot be read"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "missing or cannot be read"),
        (lambda folder: (folder / MANIFEST).write_text("[]"), "missing or cannot be read"),
        (lambda folder: (folder / MANIFEST).write_text('{"schema": 99}'), "another version"),
    ],
)
def test_a_damaged_model_is_noticed_and_built_again(damage, says):
    folder = obtain("model", SOURCE, build)
    damage(folder)
    found = stored("model")
    assert found is not None
    assert found.damage is not None
    assert says in found.damage
    assert obtain("model", SOURCE, build) == folder
    assert (folder / "weights").read_bytes() == b"weights"
    repaired = stored("model")
    assert repaired is not None
    assert repaired.damage is None


def test_a_model_made_from_another_source_is_built_again():
    obtain("model", SOURCE, build)

    def build_newer(folder, scratch):
        (folder / "weights").write_bytes(b"newer")

    folder = obtain("model", {**SOURCE, "bytes": 2}, build_newer)
    assert (folder / "weights").read_bytes() == b"newer"
    assert not (folder / "sub").exists()


def test_the_list_shows_whole_and_damaged_models_by_name():
    assert stored_models() == []
    (obtain("b", SOURCE, build) / "weights").unlink()
    obtain("a", SOURCE, build)
    assert [(model.name, model.damage) for model in stored_models()] == [
        ("a", None),
        ("b", "weights is missing"),
    ]
    assert stored_models()[0].size == len(b"weights") + len("{}")


def test_two_processes_at_once_build_one_model_once(tmp_path):
    log = tmp_path / "log"
    builders = [start_builder(log, 0.7) for _ in range(2)]
    outputs = [builder.communicate(timeout=60)[0].strip() for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0]
    assert outputs == [str(models_root() / "model")] * 2
    assert log.read_text().splitlines() == ["began"]
    assert (models_root() / "model" / "weights").read_bytes() == b"half and half"


def test_a_build_killed_in_the_middle_leaves_no_model_and_is_swept_by_the_next(tmp_path):
    log = tmp_path / "log"
    builder = start_builder(log, 60)
    wait_for(log.exists)
    builder.send_signal(signal.SIGKILL)
    builder.communicate(timeout=20)
    left = list((models_root() / ".building").rglob("weights"))
    assert [path.read_bytes() for path in left] == [b"half"]
    assert stored("model") is None

    folder = obtain("model", SOURCE, build)
    assert (folder / "weights").read_bytes() == b"weights"
    assert not left[0].exists()


def test_sweeping_leaves_the_build_of_another_model_alone(tmp_path):
    log = tmp_path / "log"
    builder = start_builder(log, 1.5)
    wait_for(log.exists)
    obtain("mod", SOURCE, build)
    builder.communicate(timeout=60)
    assert (models_root() / "model" / "weights").read_bytes() == b"half and half"


def test_whoever_waits_for_another_build_is_told_so():
    building, go_on = threading.Event(), threading.Event()
    stages = []

    def slow(folder, scratch):
        building.set()
        assert go_on.wait(20)
        build(folder, scratch)

    def take_note(stage, done, total):
        stages.append(stage)
        go_on.set()

    first = threading.Thread(target=obtain, args=("model", SOURCE, slow))
    first.start()
    assert building.wait(20)
    obtain("model", SOURCE, refuse_to_build, take_note)
    first.join(20)
    assert stages == ["waiting for another process that is fetching model"]


def test_a_cache_that_cannot_be_written_is_said_in_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GUARDRAIL_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(ModelUnavailableError, match=r"cannot be written.*GUARDRAIL_CACHE_DIR"):
        obtain("model", SOURCE, build)


def test_the_manifest_says_what_the_model_was_made_from():
    manifest = json.loads((obtain("model", SOURCE, build) / MANIFEST).read_text())
    assert manifest["source"] == SOURCE
    assert manifest["files"] == {"sub/config": 2, "weights": 7}
