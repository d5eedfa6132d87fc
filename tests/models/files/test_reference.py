import os
import subprocess
import sys
from pathlib import Path

import pytest

import guardrail
from guardrail.errors import ModelReferenceError
from guardrail.models.files.reference import DEFAULT_MODEL, ModelReference


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_default_model_is_built_in():
    assert ModelReference.parse(DEFAULT_MODEL) == ModelReference("builtin", "smollm2-135m")


@pytest.mark.parametrize(
    ("text", "name", "revision"),
    [
        ("Qwen/Qwen3-4B-Instruct-2507", "Qwen/Qwen3-4B-Instruct-2507", None),
        ("Qwen/Qwen3-4B@v1.0", "Qwen/Qwen3-4B", "v1.0"),
        ("owner/name@refs/pr/3", "owner/name", "refs/pr/3"),
        ("0x1/a_b.c-d@" + "a" * 40, "0x1/a_b.c-d", "a" * 40),
        ("TheBloke/Llama-2-7B-GGUF", "TheBloke/Llama-2-7B-GGUF", None),
        ("  owner/name\n", "owner/name", None),
    ],
)
def test_owner_slash_name_is_a_hub_id_with_an_optional_revision(text, name, revision):
    assert ModelReference.parse(text) == ModelReference("hub", name, revision=revision)


@pytest.mark.parametrize("text", ["./mine", "mine", "a/mine", "{here}/mine", "mine/", "./a/../mine"])
def test_an_existing_folder_is_a_folder_however_it_is_written(text, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "a" / "mine").mkdir(parents=True)
    reference = ModelReference.parse(text.format(here=tmp_path))
    assert (reference.kind, reference.name) == ("folder", "mine")
    assert reference.path is not None
    assert reference.path.is_absolute()
    assert reference.path.samefile(text.format(here=tmp_path))


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    assert ModelReference.parse("~/mine").path == tmp_path.resolve() / "mine"


def test_a_folder_named_like_a_built_in_model_needs_a_dot(tmp_path):
    (tmp_path / "smollm2-135m").mkdir()
    assert ModelReference.parse("smollm2-135m").kind == "builtin"
    assert ModelReference.parse("./smollm2-135m").kind == "folder"


@pytest.mark.parametrize("text", ["model.gguf", "./sub/Model.Q4.GGUF", "sub/Model.Q4.GGUF"])
def test_an_existing_gguf_file_is_one(text, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    (tmp_path / "sub" / "Model.Q4.GGUF").write_bytes(b"GGUF")
    reference = ModelReference.parse(text)
    assert (reference.kind, reference.path) == ("gguf", (tmp_path / text).resolve())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("smolm2", "unknown model 'smolm2': not built in (smollm2-135m), not a folder or .gguf file here, "),
        ("smolm2", "did you mean 'smollm2-135m'?"),
        ("SMOLLM2-135M", "did you mean 'smollm2-135m'?"),
        ("./nowhere", "no such folder: './nowhere'"),
        ("/no/where", "no such folder"),
        ("~/no/where/at/all", "no such folder"),
        ("~nobody-of-that-name/x", "leads to no folder"),
        (r"C:\models\mine", "no such folder"),
        ("nowhere/", "no such folder"),
        ("owner/nowhere.gguf", "no such file"),
        ("nowhere.gguf", "no such file: 'nowhere.gguf'"),
        ("a/b/c", "unknown model"),
        ("owner/na me", "unknown model"),
        ("owner/a--b", "unknown model"),
        ("owner/name@", "after '@' a commit, branch or tag"),
        ("owner/name@a b", "after '@' a commit, branch or tag"),
        ("owner/name@-x", "after '@' a commit, branch or tag"),
        ("weights.bin", "only .gguf files can be opened alone"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused_with_the_reason(text, says, tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(ModelReferenceError) as caught:
        ModelReference.parse(text)
    assert says in str(caught.value)


def test_nothing_is_suggested_for_a_name_like_no_other():
    with pytest.raises(ModelReferenceError) as caught:
        ModelReference.parse("xyz")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("text", ["smollm2-135m", "owner/name", "owner/name@main", "./mine", "model.gguf"])
def test_the_text_of_a_reference_reads_back_as_the_same_reference(text, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    reference = ModelReference.parse(text)
    assert ModelReference.parse(str(reference)) == reference


def test_naming_a_model_loads_neither_torch_nor_transformers():
    code = (
        "import sys, guardrail.models.files.reference, guardrail.models.files.resolve;"
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(guardrail.__file__).parents[1])}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
