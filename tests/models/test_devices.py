import pytest
import torch

from guardrail.evaluation.cost import peak_memory

CPU = torch.device("cpu")


def test_what_is_held_at_once_counts_and_what_is_gone_does_not():
    with peak_memory(CPU) as memory:
        for _ in range(3):
            tensor = torch.empty(1000, dtype=torch.float32)
            del tensor
        one, other = torch.empty(500, dtype=torch.float32), torch.empty(700, dtype=torch.float32)
        del one, other
    assert memory.peak_bytes == 4 * 1200
    assert (memory.largest_bytes, memory.largest_shape) == (4000, (1000,))


def test_views_and_changes_in_place_hold_nothing_new():
    before = torch.ones(10, 10)
    with peak_memory(CPU) as memory:
        view = before.T[2:].unsqueeze(0)
        before.add_(1)
        view.mul_(2)
    assert memory.peak_bytes == 0


def test_a_view_keeps_the_whole_of_what_it_shows():
    with peak_memory(CPU) as memory:
        view = torch.empty(100, dtype=torch.float32)[:1]
        other = torch.empty(100, dtype=torch.float32)
        del view, other
    assert memory.peak_bytes == 800


def test_what_the_graph_keeps_counts_until_it_is_gone():
    leaf = torch.ones(100, requires_grad=True)
    with peak_memory(CPU) as memory:
        product = (leaf * 2).exp()
        final = product.sum()
        del product
        (gradient,) = torch.autograd.grad(final, leaf)
    # exp keeps its output for the way back, on which gradients of the same size appear.
    assert memory.peak_bytes >= 2 * 400
    del final
    assert gradient.shape == leaf.shape


def test_literals_are_counted():
    with peak_memory(CPU) as memory:
        tensor = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    assert memory.peak_bytes == 24
    assert tensor.sum() == 6


def test_an_empty_computation_takes_nothing():
    with peak_memory(CPU) as memory:
        pass
    assert (memory.peak_bytes, memory.largest_bytes, memory.largest_shape) == (0, 0, None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_the_allocator_is_asked():
    device = torch.device("cuda")
    before = torch.empty(1 << 20, device=device)
    with peak_memory(device) as memory:
        inside = torch.empty(1 << 20, dtype=torch.uint8, device=device)
        del inside
    assert memory.peak_bytes == 1 << 20
    assert memory.largest_bytes is None
    assert before.numel() == 1 << 20
