"""A fingerprint is the same for the same weights, and another for any other."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from guardrail.errors import ModelUnavailableError
from guardrail.models.fingerprint import fingerprint_model
from tests.support.chat import save_tiny_chat, tiny_chat, tiny_chat_model
from tests.support.tiny import FAMILIES, LLAMA3, local, tiny_config, tiny_weights


def test_the_same_weights_have_the_same_fingerprint():
    first = fingerprint_model(tiny_chat_model())
    assert first == fingerprint_model(tiny_chat_model())
    assert (first.name, first.dtype, first.quantization) == ("tiny", "float32", None)


def test_the_fingerprint_of_known_weights_never_changes():
    """Or every profile would have to be made again."""
    state = {
        "b": torch.arange(300_000, dtype=torch.float32).view(3, -1) / 7,
        "a": torch.tensor([1.0, -2.0, 0.5], dtype=torch.bfloat16),
    }
    network = SimpleNamespace(state_dict=lambda: state, dtype=torch.float32, config=SimpleNamespace())
    model = SimpleNamespace(model=network, tokenizer=SimpleNamespace(chat_template=None), name="known")
    assert fingerprint_model(model).weights.startswith("4becbe0944511e26")


@pytest.mark.slow
def test_another_process_finds_the_same(tmp_path):
    folder = save_tiny_chat(tmp_path)
    program = (
        "import sys; from guardrail import LocalModel\n"
        "from guardrail.models.fingerprint import fingerprint_model\n"
        "print(fingerprint_model(LocalModel.load(sys.argv[1])).weights)"
    )
    command = [sys.executable, "-c", program, str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == fingerprint_model(tiny_chat_model()).weights


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_the_same():
    on_cpu = fingerprint_model(tiny_chat_model())
    model = tiny_chat_model()
    model.model.cuda()
    assert fingerprint_model(model) == on_cpu


@pytest.mark.parametrize("place", [0, 1, 700, -1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_value_of_one_matrix_is_enough(place, dtype):
    model = tiny_chat_model()
    model.model.to(dtype)
    before = fingerprint_model(model)
    weight = model.model.model.layers[2].mlp.down_proj.weight.view(-1)
    weight[place] = torch.nextafter(weight[place], torch.tensor(torch.inf, dtype=dtype))
    after = fingerprint_model(model)
    assert after.weights != before.weights
    assert (after.name, after.chat_template, after.dtype) == (before.name, before.chat_template, before.dtype)


def _swap_values(weight):
    weight[0, [0, 1]] = weight[0, [1, 0]]


def _swap_rows(weight):
    weight[[0, 8]] = weight[[8, 0]]


def _negate(weight):
    weight.neg_()


@pytest.mark.parametrize("change", [_swap_values, _swap_rows, _negate])
def test_where_each_value_stands_counts(change):
    model = tiny_chat_model()
    before = fingerprint_model(model).weights
    change(model.model.model.layers[0].self_attn.q_proj.weight)
    assert fingerprint_model(model).weights != before


def test_layers_in_another_order_are_another_model():
    model = tiny_chat_model()
    before = fingerprint_model(model).weights
    layers = model.model.model.layers
    layers[0], layers[1] = layers[1], layers[0]
    assert fingerprint_model(model).weights != before


def test_the_chat_template_counts():
    model, plain = tiny_chat_model(), tiny_chat_model()
    before = fingerprint_model(model)
    model.tokenizer.chat_template = LLAMA3
    plain.tokenizer.chat_template = None
    assert fingerprint_model(model).chat_template not in (before.chat_template, None)
    assert fingerprint_model(plain).chat_template is None
    assert fingerprint_model(model).weights == before.weights


def test_the_type_of_the_weights_counts():
    model = tiny_chat_model()
    before = fingerprint_model(model)
    model.model.bfloat16()
    after = fingerprint_model(model)
    assert (before.dtype, after.dtype) == ("float32", "bfloat16")
    assert after.weights != before.weights


def test_quantization_is_named():
    model = tiny_chat_model()
    model.model.config.quantization_config = SimpleNamespace(quant_method="bitsandbytes", load_in_4bit=True)
    try:
        assert fingerprint_model(model).quantization == "bitsandbytes 4bit"
    finally:
        del model.model.config.quantization_config


def test_a_tied_head_is_not_a_head_of_its_own_once_it_differs():
    tied = local(tiny_weights(tiny_config(FAMILIES["llama-tied"])))
    before = fingerprint_model(tied)
    assert before == fingerprint_model(local(tiny_weights(tiny_config(FAMILIES["llama-tied"]))))
    tied.model.lm_head.weight = nn.Parameter(tied.model.lm_head.weight * 2, requires_grad=False)
    assert fingerprint_model(tied).weights != before.weights


def test_how_the_weights_lie_in_memory_does_not_count():
    model = tiny_chat_model()
    before = fingerprint_model(model).weights
    projection = model.model.model.layers[0].mlp.up_proj
    columns_first = projection.weight.t().contiguous().t()
    shifted = torch.cat([torch.zeros(3), columns_first.flatten()])[3:].view(projection.weight.shape)
    for weight in (columns_first, shifted):
        projection.weight = nn.Parameter(weight, requires_grad=False)
        assert fingerprint_model(model).weights == before


def test_weights_that_are_not_in_memory_have_no_fingerprint():
    network, tokenizer = tiny_chat()
    model = local(network, tokenizer=tokenizer)
    model.model.lm_head.to("meta")
    with pytest.raises(ModelUnavailableError, match=r"lm_head\.weight are not in memory"):
        fingerprint_model(model)


def test_a_hundred_megabytes_are_read_in_a_moment(one_thread):
    model = tiny_chat_model()
    model.model.extra = nn.Linear(5000, 5000)
    begun = time.process_time()
    fingerprint_model(model)
    # Measured 0.02 s.
    assert time.process_time() - begun < 0.5
