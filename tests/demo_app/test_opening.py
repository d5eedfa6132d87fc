import subprocess
import sys
import time

from demo_app.opening import open_model
from demo_app.parts.models import house


def test_the_model_is_open_before_the_first_visitor_comes(demo, model_folder):
    open_model()
    until = time.monotonic() + 60
    while not house().holds(str(model_folder)):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_policy_that_cannot_be_used_is_left_to_the_first_who_asks(demo, model_folder):
    demo.setenv("GUARDRAIL_DEMO_POLICY", "missing.yaml")
    open_model()
    assert not house().holds(str(model_folder))


def test_the_pages_load_nothing_that_takes_seconds():
    program = (
        "import sys; from importlib import import_module\n"
        "for name in ('chat', 'compare', 'policy', 'calibration', 'review'):"
        " import_module(f'demo_app.views.{name}')\n"
        "print(sorted({'torch', 'sklearn', 'scipy.stats', 'matplotlib'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"
