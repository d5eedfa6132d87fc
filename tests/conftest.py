# Nothing here loads torch: the process that hands the tests out would load it before the others begin.
import gc
import os
import sys
import threading

if "PYTEST_XDIST_WORKER" in os.environ:
    # One process a core takes less time than one with a thread for each.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# How long an example takes says more of what else the machine does.
settings.register_profile("guardrail", deadline=None)
settings.load_profile("guardrail")


@pytest.fixture(autouse=True)
def what_is_drawn_without_a_seed_is_the_same_each_time():
    """A test that fails once in twenty runs holds up whoever changed something else."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.default_generator.manual_seed(0)


@pytest.fixture(autouse=True)
def shared_weights_stay_as_they_are():
    """Which tests share a process, and in what order, differs from run to run."""
    yield
    if (tiny := sys.modules.get("tests.support.tiny")) is None:
        return
    assert not (written := tiny.forget_written_models()), (
        f"the weights of tiny_model({written[0]!r}), which other tests share, were written to: make your own "
        "with local(tiny_weights(...))"
    )


@pytest.fixture
def one_thread():
    """Tiny products are slower in several threads, and other tests want the cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def exact(one_thread):
    """No float32 within a float64 model."""
    from tests.support.tiny import Exact

    with Exact():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_collection(session):
    """What is imported and collected stays: looking through it for garbage took a seventh of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Leave tests that are marked ``untraced`` out of coverage, which makes them up to three times as slow.

    pytest-cov's own mark stops one of the two collectors that it starts where xdist is, and wakes the other.
    """
    if item.get_closest_marker("untraced") is None:
        return (yield)
    here, others = sys.gettrace(), threading.gettrace()
    sys.settrace(None)
    threading.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(here)
        threading.settrace(others)
