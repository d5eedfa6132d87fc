"""Products that are shared out over threads are the same products."""

import pytest
import torch

from guardrail.models.replay import replay as products
from guardrail.models.replay.replay import product


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def parts(monkeypatch):
    """Into how many parts each product was split, where it was."""
    found, bmm = [], torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda one, other: found.append(len(one)) or bmm(one, other))
    return found


@pytest.mark.parametrize("rows", [(1,), (2, 11), (products._MOST_ROWS,)])
def test_few_rows_are_shared_out_over_the_threads(threads, rows, parts):
    given, weight = torch.randn(*rows, 1536), torch.randn(1536, 576)
    found = product(given, weight)
    torch.testing.assert_close(found.double(), given.double() @ weight.double(), rtol=1e-4, atol=1e-4)
    assert parts == ([] if threads == 1 else [threads])


@pytest.mark.parametrize("threads", [2], indirect=True)
@pytest.mark.parametrize(
    ("rows", "shape", "dtype"),
    [
        (products._MOST_ROWS + 1, (1536, 576), torch.float32),
        (22, (192, 576), torch.float32),
        (22, (1537, 576), torch.float32),
        (22, (1536, 576), torch.float64),
        (22, (1536, 576), torch.bfloat16),
    ],
)
def test_all_others_are_left_to_pytorch(threads, rows, shape, dtype, parts):
    given, weight = torch.randn(rows, shape[0], dtype=dtype), torch.randn(shape, dtype=dtype)
    torch.testing.assert_close(product(given, weight), given @ weight)
    assert not parts


@pytest.mark.parametrize("threads", [2], indirect=True)
def test_rows_and_weights_that_are_views_are_read_where_they_lie(threads):
    given = torch.randn(1536, 2, 9).permute(1, 2, 0)
    weight = torch.randn(2000, 1000)[100:1636, 200:776]
    torch.testing.assert_close(product(given, weight), given @ weight, rtol=1e-4, atol=1e-4)
