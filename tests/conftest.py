import pytest
import torch

from tests.tiny import Exact


@pytest.fixture
def one_thread():
    """Tiny products are slower in several threads, and other tests want the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def exact(one_thread):
    """No float32 within a float64 model."""
    with Exact():
        yield
