import subprocess
import sys
import time
from threading import Thread

from demo_app import model_pool, policy_draft
from demo_app.model_pool import house, open_model
from guardrail.calibration.held_out import builtin_profile
from guardrail.policy.yaml_document import builtin_policies


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


def test_what_is_asked_meanwhile_goes_before_the_other_pages(demo, monkeypatch):
    read = []
    monkeypatch.setattr(model_pool, "import_module", read.append)
    with house().in_line("a model", "a question"):
        opened = Thread(target=open_model)
        opened.start()
        opened.join(1.5)
        assert opened.is_alive()
        assert not read
    opened.join(30)
    assert len(read) == 4


def test_what_the_policy_page_counts_is_read_before_its_first_visitor(demo, monkeypatch):
    counted = []
    monkeypatch.setattr(policy_draft, "decided", lambda policy, found: counted.append(len(found.answers)))
    demo.setenv("GUARDRAIL_DEMO_POLICY", str(next(iter(builtin_policies().values()))))
    monkeypatch.setattr(model_pool, "builtin_profile", lambda _model: builtin_profile("smollm2-135m"))
    open_model()
    assert [count > 100 for count in counted] == [True]


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
