"""Folders that are almost models: each opens, or is told of in one sentence that names what to mend."""

import json
import math
import shutil

import pytest
from safetensors.torch import load_file, save_file

from guardrail.errors import GuardrailError, UnsafeModelError
from guardrail.models.local import LocalModel
from guardrail.models.sampling import Sampling
from tests.support.chat import save_tiny_chat

pytestmark = pytest.mark.usefixtures("one_thread")
ABSENT = object()


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return save_tiny_chat(tmp_path_factory.mktemp("folder") / "model")


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "model")


def change(path, name, value):
    fields = json.loads(path.read_text()) if path.exists() else {}
    fields[name] = value
    path.write_text(json.dumps({key: one for key, one in fields.items() if one is not ABSENT}))


def answers(folder):
    return LocalModel.load(str(folder)).generate("Hi", Sampling(max_tokens=2))


@pytest.mark.parametrize(
    ("file", "name", "value", "says"),
    [
        ("config.json", "architectures", 5, "architectures is 5, and should be a list of names"),
        ("config.json", "architectures", "LlamaForCausalLM", "architectures is 'LlamaForCausalLM'"),
        ("config.json", "architectures", [None], "should be a list of names"),
        ("config.json", "model_type", [], r"model_type is \[\]"),
        ("config.json", "model_type", ABSENT, "type None"),
        ("config.json", "model_type", "nope", "type 'nope'"),
        ("config.json", "auto_map", "x.Y", "auto_map is 'x.Y'"),
        ("config.json", "quantization_config", 4, "quantization_config is 4"),
        (
            "config.json",
            "quantization_config",
            {"quant_method": "bitsandbytes", "load_in_4bit": True},
            "its weights could not be opened",
        ),
        ("config.json", "num_hidden_layers", 10**30, "num_hidden_layers is 1000.*, and should be at most"),
        ("config.json", "num_hidden_layers", 10**9, "no more than its weights, which are 39 tensors"),
        ("config.json", "num_hidden_layers", -2, "num_hidden_layers is -2, and should be at least 1"),
        ("config.json", "num_hidden_layers", 3.5, "num_hidden_layers"),
        ("config.json", "num_hidden_layers", 6, "does not hold the whole model"),
        ("config.json", "hidden_size", 0, "hidden_size is 0, and should be at least 1"),
        ("config.json", "hidden_size", 64, "does not hold the whole model: .* of another shape"),
        ("config.json", "vocab_size", 2**50, "vocab_size is"),
        ("config.json", "max_position_embeddings", -1, "max_position_embeddings is -1"),
        ("config.json", "rms_norm_eps", math.nan, "rms_norm_eps is nan, and should be a number"),
        ("config.json", "rope_parameters", {"rope_type": "nope", "rope_theta": 1.0}, "could not be opened"),
        ("config.json", "hidden_act", "nope", "could not be opened"),
        ("generation_config.json", "eos_token_id", "</s>", "eos_token_id"),
        ("generation_config.json", "eos_token_id", [[1]], "eos_token_id"),
        ("generation_config.json", "eos_token_id", 10**30, "eos_token_id is 1000"),
        ("tokenizer_config.json", "model_max_length", "long", "model_max_length is 'long', no number"),
        ("tokenizer_config.json", "eos_token", 5, "its tokenizer could not be opened"),
        ("tokenizer_config.json", "added_tokens_decoder", 5, "its tokenizer could not be opened"),
        ("tokenizer.json", "model", {"type": "BPE"}, "its tokenizer could not be opened"),
        ("tokenizer.json", "version", 7, "its tokenizer could not be opened"),
    ],
)
def test_what_cannot_be_used_is_told_of_in_a_sentence_that_names_it(folder, file, name, value, says):
    change(folder / file, name, value)
    with pytest.raises(GuardrailError, match=says) as caught:
        answers(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [
        ("generation_config.json", "eos_token_id", []),
        ("generation_config.json", "eos_token_id", -1),
        ("generation_config.json", "max_length", "x"),
        ("generation_config.json", "num_beams", -3),
        ("tokenizer_config.json", "model_max_length", None),
        ("tokenizer_config.json", "tokenizer_class", "NopeTokenizer"),
    ],
)
def test_what_has_no_part_in_it_does_not_matter(folder, file, name, value):
    change(folder / file, name, value)
    assert len(answers(folder).response_ids) <= 2


@pytest.mark.parametrize("shard", ["../model.safetensors", "/etc/model.safetensors", "a/b.safetensors", 5])
def test_weights_outside_of_the_folder_are_refused(folder, shard):
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(UnsafeModelError, match="not files of this folder"):
        answers(folder)


def test_a_tensor_that_is_missing_is_named(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(GuardrailError, match=r"1 weights are missing .* such as model\.norm\.weight"):
        answers(folder)
