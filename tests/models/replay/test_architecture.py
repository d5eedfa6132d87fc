import pytest
import torch
from torch import nn

from guardrail.models.replay.architecture import headless, passing_through, positions_of, predicting
from guardrail.models.runnable_model import sees_padding
from tests.support.reference import part
from tests.support.tiny import FAMILIES, tiny_model

pytestmark = pytest.mark.usefixtures("exact")


@pytest.mark.parametrize("name", FAMILIES)
def test_the_layers_and_the_head_of_every_family_are_found(name):
    model = tiny_model(name)
    assert list(model.anatomy.layers) == list(part(model.model, FAMILIES[name].layers_path))
    assert model.anatomy.head is model.model.get_output_embeddings()
    assert model.anatomy.upper_half == range(4, 7)


@pytest.mark.parametrize(
    ("name", "plain"),
    [("llama", True), ("phi", True), ("gemma2", False), ("granite", False), ("cohere2", False)],
)
def test_a_head_is_plain_unless_its_output_is_capped_or_scaled(name, plain):
    assert tiny_model(name).runnable.plain_head is plain


@pytest.mark.parametrize(
    ("name", "returned"), [("llama", 0), ("gpt2", 0), ("bloom", 2), ("falcon-rotary", 2)]
)
def test_layers_may_return_a_tuple(name, returned):
    assert tiny_model(name).runnable.returned == returned


@pytest.mark.parametrize("name", ["llama", "bloom", "falcon-rotary", "gptj", "mpt"])
def test_layers_that_are_passed_through_do_nothing(name):
    model = tiny_model(name)
    ids = torch.tensor([[30, 31, 32], [40, 41, 42]])
    anatomy, returned, seen = model.anatomy, model.runnable.returned, []
    handle = anatomy.layers[5].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    first = anatomy.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad(), passing_through(anatomy.layers[:5], returned):
        model.model(ids, use_cache=False)
    first.remove()
    handle.remove()
    torch.testing.assert_close(seen[-1], seen[0])
    assert seen[-1].shape == (2, 3, 24)


def test_a_forward_that_was_replaced_before_comes_back():
    head = nn.Linear(3, 4)
    own = head.forward
    head.forward = own
    with headless(head):
        assert head(torch.ones(1, 2, 3)).shape == (1, 2, 1)
    assert head.__dict__["forward"] is own
    assert head(torch.ones(1, 2, 3)).shape == (1, 2, 4)


def test_the_head_sees_the_last_columns_only():
    head = nn.Linear(3, 4)
    with predicting(head, 2):
        assert head(torch.ones(1, 5, 3)).shape == (1, 2, 4)
    assert head(torch.ones(1, 5, 3)).shape == (1, 5, 4)


def test_positions_count_from_the_first_token_of_each_row():
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    found = positions_of(tiny_model("llama").model, mask, 1)
    assert found["position_ids"].tolist() == [[0, 0, 1, 2], [1, 2, 3, 4]]
    assert positions_of(tiny_model("bloom").model, mask, 1) == {}


@pytest.mark.parametrize(
    ("name", "seen"),
    [("llama", False), ("gemma3", False), ("bloom", False), ("opt", False), ("mamba", False)],
)
def test_padding_is_invisible_to_most(name, seen):
    model = tiny_model(name)
    assert sees_padding(model.model, model.anatomy) is seen
