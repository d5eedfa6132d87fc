import json
import logging
import shutil
import struct
import warnings
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from guardrail.errors import (
    MissingDependencyError,
    ModelReferenceError,
    ModelUnavailableError,
    OptionError,
    UnsafeModelError,
)
from guardrail.models.files import resolve as sources
from guardrail.models.files.gguf import convert_gguf
from guardrail.models.files.reference import BUILTIN_MODELS, ModelReference
from guardrail.models.files.resolve import stored_models
from guardrail.models.loading import (
    Hardware,
    LoadOptions,
    choose_device,
    choose_dtype,
    local_folder,
    open_model,
)
from guardrail.models.replay.transformers_internals import quiet_transformers

WORDS = ["<unk>", "</s>", *(f"w{number}" for number in range(62))]
GGUF_WORDS = ["<unk>", "</s>", "w", "1", "2", "w1", "w2", *(f"x{number}" for number in range(57))]
GB = 10**9


@pytest.fixture(scope="session")
def tiny_bfloat16(tmp_path_factory) -> Path:
    """A Llama of two layers in bfloat16 with a tied head, and a tokenizer without a padding token."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=len(WORDS),
        tie_word_embeddings=True,
    )
    with quiet_transformers():
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
        words = models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>")
        tokenizer = Tokenizer(words)
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>")
        fast.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tiny_bfloat16, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_bfloat16, tmp_path / "tiny"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GUARDRAIL_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def gguf_file(tmp_path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf", seed=0)


def open_folder(folder: Path, **options):
    return open_model(ModelReference.parse(str(folder)), LoadOptions(**options))


def edit_config(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def write_gguf(path: Path, seed: int) -> Path:
    """A Llama of one layer whose tensors are float32 in a GGUF file, with a tied head."""
    random = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(GGUF_WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(GGUF_WORDS)
    writer.add_token_types([3, 3, *([1] * (len(GGUF_WORDS) - 2))])
    writer.add_token_merges(["w 1", "w 2"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_chat_template("{% for message in messages %}{{ message['content'] }}{% endfor %}")
    shapes = {
        "token_embd.weight": (len(GGUF_WORDS), 32),
        "output_norm.weight": (32,),
        "blk.0.attn_norm.weight": (32,),
        "blk.0.ffn_norm.weight": (32,),
        "blk.0.attn_q.weight": (32, 32),
        "blk.0.attn_k.weight": (16, 32),
        "blk.0.attn_v.weight": (16, 32),
        "blk.0.attn_output.weight": (32, 32),
        "blk.0.ffn_gate.weight": (64, 32),
        "blk.0.ffn_up.weight": (64, 32),
        "blk.0.ffn_down.weight": (32, 64),
    }
    for name, shape in shapes.items():
        writer.add_tensor(name, random.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_an_opened_model_is_ready_to_be_read(folder):
    opened = open_folder(folder)
    assert opened.folder == folder.resolve()
    assert not opened.model.training
    assert not any(parameter.requires_grad for parameter in opened.model.parameters())
    assert opened.tokenizer.padding_side == "left"
    assert opened.tokenizer.pad_token == opened.tokenizer.eos_token == "</s>"
    logits = opened.model(**opened.tokenizer(["w1 w2", "w1"], padding=True, return_tensors="pt")).logits
    assert logits.shape == (2, 2, len(WORDS))


def test_the_tied_head_stays_tied_and_the_weights_are_the_files(folder):
    model = open_folder(folder).model
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    stored = load_file(folder / "model.safetensors")
    assert all(torch.equal(model.state_dict()[name], tensor.float()) for name, tensor in stored.items())


@pytest.mark.parametrize("name", ["bfloat16", "float16", "float32", "float64"])
def test_a_type_that_is_asked_for_is_given(name, folder):
    assert open_folder(folder, dtype=name, device="cpu").model.dtype == getattr(torch, name)


def test_on_a_cpu_the_stored_type_is_kept_where_float32_would_take_over_half_of_the_memory(
    folder, monkeypatch
):
    parameters = sum(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())
    for memory, expected in ((8 * parameters, torch.float32), (8 * parameters - 8, torch.bfloat16)):
        machine = Hardware((), False, memory)
        monkeypatch.setattr("guardrail.models.loading.available_hardware", lambda machine=machine: machine)
        assert open_folder(folder).model.dtype == expected


def test_sharded_weights_are_opened(folder):
    with quiet_transformers():
        LlamaForCausalLM.from_pretrained(folder).save_pretrained(folder, max_shard_size="5KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    assert len(list(folder.glob("*.safetensors"))) > 1
    assert open_folder(folder).model.dtype == torch.float32


def test_nothing_is_printed_and_every_switch_is_as_before(folder, capfd):
    def switches():
        loggers = [
            logging.getLogger(name).level for name in ("transformers", "huggingface_hub", "accelerate")
        ]
        return [*loggers, transformers_logging.is_progress_bar_enabled(), list(warnings.filters)]

    # Would be reported loudly by transformers.
    edit_config(folder, num_hidden_layers=1)
    before = switches()
    open_folder(folder)
    assert capfd.readouterr() == ("", "")
    assert switches() == before


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.ckpt", "consolidated.00.pth"])
def test_pickled_weights_are_refused_unopened_with_the_remedy(name, folder):
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"not even a pickle")
    with pytest.raises(UnsafeModelError, match=r"save_pretrained") as caught:
        open_folder(folder)
    assert name in str(caught.value)


def test_pickles_beside_safetensors_are_left_alone(folder):
    (folder / "pytorch_model.bin").write_bytes(b"not even a pickle")
    open_folder(folder)


def test_a_configuration_cannot_name_a_pickle_as_its_weights(folder):
    edit_config(folder, transformers_weights="adapter_model.bin")
    with pytest.raises(UnsafeModelError, match=r"adapter_model\.bin"):
        open_folder(folder)


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (lambda f: (f / "config.json").unlink(), ModelReferenceError, "no config.json"),
        (lambda f: (f / "config.json").write_text("{"), ModelUnavailableError, "cannot be read"),
        (lambda f: (f / "config.json").write_text("[]"), ModelUnavailableError, "not a JSON object"),
        (lambda f: edit_config(f, hidden_size="wide"), ModelUnavailableError, "could not be opened"),
        (
            lambda f: edit_config(f, hidden_size=24),
            ModelUnavailableError,
            "could not be opened|another shape",
        ),
        (lambda f: edit_config(f, num_hidden_layers=3), ModelUnavailableError, "weights are missing"),
        (lambda f: edit_config(f, model_type="nonesuch"), ModelReferenceError, "does not know"),
        (lambda f: (f / "model.safetensors").unlink(), ModelReferenceError, "holds no weights"),
        (lambda f: (f / "tokenizer.json").unlink(), ModelReferenceError, "holds no tokenizer"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), ModelUnavailableError, "its tokenizer could not"),
        (lambda f: (f / "adapter_config.json").write_text("{}"), ModelReferenceError, "adapter"),
        (lambda f: truncate(f / "model.safetensors", 100), ModelUnavailableError, "damaged or incomplete"),
        (
            lambda f: (f / "model.safetensors").write_bytes(b""),
            ModelUnavailableError,
            "damaged or incomplete",
        ),
        (
            lambda f: drop_tensor(f, "model.norm.weight"),
            ModelUnavailableError,
            r"such as model\.norm\.weight",
        ),
        (lambda f: split(f, missing=True), ModelUnavailableError, "names 1 files that are not there"),
        (lambda f: split(f, name="part.bin"), UnsafeModelError, "not safetensors"),
        (lambda f: shutil.rmtree(f), ModelReferenceError, "no such folder"),
    ],
)
def test_a_folder_that_is_no_whole_model_is_refused_with_the_reason(spoil, error, says, folder):
    spoil(folder)
    with pytest.raises(error, match=says) as caught:
        open_folder(folder)
    assert "\n" not in str(caught.value)


def truncate(file: Path, by: int) -> None:
    file.write_bytes(file.read_bytes()[:-by])


def drop_tensor(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def split(folder: Path, *, name: str = "part.safetensors", missing: bool = False) -> None:
    (folder / "model.safetensors").rename(folder / name)
    index = {"weight_map": {"model.norm.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    if missing:
        (folder / name).unlink()


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True},
        {"model_type": "bart", "architectures": ["BartForConditionalGeneration"], "is_encoder_decoder": True},
        {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
        {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]},
        {"model_type": "vit"},
    ],
)
def test_a_model_that_does_not_continue_text_is_refused(config, folder):
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelReferenceError, match="not a causal"):
        open_folder(folder)


@pytest.fixture
def own_code(folder, tmp_path, monkeypatch) -> Path:
    """A folder whose model type only its own code knows; the code leaves a mark when it is run."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    edit_config(
        folder,
        model_type="ownllama",
        architectures=["OwnForCausalLM"],
        auto_map={"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"},
    )
    (folder / "own.py").write_text(
        "from pathlib import Path\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        f"Path({str(tmp_path / 'was-run')!r}).touch()\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'ownllama'\n"
        "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    return folder


def test_the_models_own_code_is_not_run_unless_it_is_trusted(own_code, tmp_path):
    with pytest.raises(UnsafeModelError, match="trust_remote_code=True"):
        open_folder(own_code)
    assert not (tmp_path / "was-run").exists()
    assert type(open_folder(own_code, trust_remote_code=True).model).__name__ == "OwnForCausalLM"
    assert (tmp_path / "was-run").exists()


def test_code_that_comes_with_a_known_architecture_is_not_run_and_not_needed(own_code, tmp_path):
    edit_config(own_code, model_type="llama", architectures=["LlamaForCausalLM"])
    assert type(open_folder(own_code).model) is LlamaForCausalLM
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "float8"},
        {"quantization": "2bit"},
        {"device": "cpu", "device_map": "auto"},
    ],
)
def test_options_that_do_not_exist_or_contradict_each_other_are_refused(options):
    with pytest.raises(OptionError):
        LoadOptions(**options)


@pytest.mark.parametrize("device", ["cuda:99", "tpu-ish", "cuda:x"])
def test_a_device_that_is_not_there_is_refused(device, folder):
    with pytest.raises(OptionError, match="device="):
        open_folder(folder, device=device)


def test_quantization_without_bitsandbytes_names_the_extra(folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r'pip install "guardrail-llm\[quantization\]"'):
        open_folder(folder, quantization="4bit")


def test_quantization_without_a_gpu_is_refused(folder, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(OptionError, match="needs a CUDA device"):
        open_folder(folder, quantization="8bit")


@pytest.mark.parametrize(
    ("requested", "machine", "needed", "expected"),
    [
        ("auto", Hardware((), False, 8 * GB), GB, "cpu"),
        ("auto", Hardware((), True, 8 * GB), GB, "mps"),
        ("auto", Hardware((10 * GB, 24 * GB), False, 8 * GB), GB, "cuda:1"),
        ("auto", Hardware((10 * GB, 24 * GB), True, 8 * GB), 20 * GB, "cuda:1"),
        ("auto", Hardware((10 * GB, 24 * GB), False, 8 * GB), 21 * GB, None),
        ("cuda", Hardware((10 * GB, 24 * GB), False, 8 * GB), 21 * GB, "cuda:0"),
        ("cuda:1", Hardware((10 * GB, 24 * GB), False, 8 * GB), 90 * GB, "cuda:1"),
        ("cpu", Hardware((10 * GB,), True, 8 * GB), GB, "cpu"),
        ("mps", Hardware((), True, 8 * GB), GB, "mps"),
    ],
)
def test_a_model_goes_to_the_roomiest_gpu_it_fits_on_and_otherwise_to_several(
    requested, machine, needed, expected
):
    device = choose_device(requested, machine, needed)
    assert (str(device) if device else None) == expected


@pytest.mark.parametrize("requested", ["cuda", "cuda:2", "mps", "nonsense"])
def test_a_device_is_never_replaced_by_another(requested):
    with pytest.raises(OptionError):
        choose_device(requested, Hardware((GB, GB) if requested == "cuda:2" else (), False, GB), 1)


@pytest.mark.parametrize("device", ["cuda:0", "mps", None])
def test_away_from_the_cpu_the_stored_type_is_kept(device):
    assert choose_dtype("auto", device and torch.device(device), Hardware((), False, 8 * GB), 1) is None


def test_a_gguf_file_becomes_safetensors_with_the_same_weights(gguf_file):
    opened = open_folder(gguf_file)
    model = opened.model
    original = {tensor.name: tensor.data for tensor in gguf.GGUFReader(gguf_file).tensors}
    assert model.dtype == torch.float32
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    layer = model.model.layers[0]
    for name, weight in (
        ("token_embd", model.model.embed_tokens.weight),
        ("output_norm", model.model.norm.weight),
        ("blk.0.attn_v", layer.self_attn.v_proj.weight),
        ("blk.0.ffn_down", layer.mlp.down_proj.weight),
    ):
        assert np.array_equal(weight.numpy(), original[f"{name}.weight"])
    assert not hasattr(model.config, "quantization_config")
    assert opened.tokenizer.eos_token == "</s>"
    assert opened.tokenizer.apply_chat_template([{"role": "user", "content": "w1"}], tokenize=False) == "w1"


def test_a_gguf_file_is_converted_once_and_again_when_it_changed(gguf_file, monkeypatch):
    conversions = []

    def count(*arguments):
        conversions.append(arguments)
        convert_gguf(*arguments)

    monkeypatch.setattr("guardrail.models.files.gguf.convert_gguf", count)
    before = open_folder(gguf_file).model.model.embed_tokens.weight
    assert torch.equal(open_folder(gguf_file).model.model.embed_tokens.weight, before)
    assert len(conversions) == 1
    write_gguf(gguf_file, seed=1)
    assert not torch.equal(open_folder(gguf_file).model.model.embed_tokens.weight, before)
    assert len(conversions) == 2
    assert len(stored_models()) == 1


def test_a_gguf_file_is_parsed_once_for_all_that_transformers_wants_of_it(gguf_file, monkeypatch):
    parsed, own, begin = [], gguf.GGUFReader, gguf.GGUFReader.__init__

    def count(self, path):
        parsed.append(path)
        begin(self, path)

    monkeypatch.setattr(own, "__init__", count)
    open_folder(gguf_file)
    assert len(parsed) == 1
    write_gguf(gguf_file, seed=1)
    open_folder(gguf_file)
    assert len(parsed) == 2
    assert gguf.GGUFReader is own


def test_a_tokenizer_that_lies_beside_a_gguf_file_is_not_taken_for_its_own(gguf_file, folder):
    shutil.copy(folder / "tokenizer.json", gguf_file.parent)
    assert open_folder(gguf_file).tokenizer.convert_tokens_to_ids("w1") == GGUF_WORDS.index("w1")


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not one" * 100, b"GGUF" + struct.pack("<IQQ", 3, 9, 9)])
def test_a_damaged_gguf_file_is_one_clear_error_and_leaves_nothing(content, gguf_file, capfd):
    gguf_file.write_bytes(content)
    with pytest.raises(ModelUnavailableError, match=r"tiny\.gguf could not be converted") as caught:
        open_folder(gguf_file)
    assert "\n" not in str(caught.value)
    assert stored_models() == []
    assert capfd.readouterr() == ("", "")


def test_a_truncated_gguf_file_is_refused(gguf_file):
    truncate(gguf_file, 1000)
    with pytest.raises(ModelUnavailableError, match="could not be converted"):
        open_folder(gguf_file)


def test_conversion_tells_how_far_it_is_and_prints_nothing(gguf_file, capfd):
    seen = []
    local_folder(ModelReference.parse(str(gguf_file)), lambda *report: seen.append(report))
    stages = list(dict.fromkeys(stage for stage, _, _ in seen))
    assert stages == [
        "reading the tokenizer of the GGUF file",
        "reading the weights of the GGUF file",
        "unpacking the weights of the GGUF file",
        "writing safetensors",
    ]
    assert capfd.readouterr() == ("", "")


def test_a_disk_without_room_is_noticed_before_writing(gguf_file, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(ModelUnavailableError, match="GUARDRAIL_CACHE_DIR"):
        open_folder(gguf_file)


def test_a_built_in_model_is_fetched_and_converted_once_and_repaired_when_damaged(gguf_file, monkeypatch):
    fetched = []

    def fetch(model, scratch, progress):
        fetched.append(model.name)
        return Path(shutil.copy(gguf_file, scratch / "model.gguf"))

    monkeypatch.setattr(sources, "fetch_gguf", fetch)
    reference = ModelReference.parse("smollm2-135m")
    folder = open_model(reference).folder
    assert open_model(reference).folder == folder
    assert fetched == ["smollm2-135m"]
    truncate(folder / "model.safetensors", 10)
    assert open_model(reference).folder == folder
    assert fetched == ["smollm2-135m"] * 2


@pytest.mark.slow
def test_the_default_model_is_the_published_one_and_answers(tmp_path):
    """Compared with the GGUF file read by the gguf package alone, which shares no code with us."""
    opened = open_model(ModelReference.parse("smollm2-135m"))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    file = sources.fetch_gguf(BUILTIN_MODELS["smollm2-135m"], scratch)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
    for name, weight in (
        ("token_embd.weight", opened.model.model.embed_tokens.weight),
        ("blk.29.ffn_down.weight", opened.model.model.layers[29].mlp.down_proj.weight),
    ):
        expected = gguf.quants.dequantize(tensors[name].data, tensors[name].tensor_type)
        assert np.array_equal(weight.numpy(), expected)
    assert sum(p.numel() for p in opened.model.parameters()) == BUILTIN_MODELS["smollm2-135m"].parameters
    question = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = opened.tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt")
    answer = opened.model.generate(**inputs, max_new_tokens=12, do_sample=False)
    assert "Paris" in opened.tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :])
