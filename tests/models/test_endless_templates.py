"""Chat templates are programs that come with a model: one that goes on for ever is stopped."""

import contextlib
import sys
import threading
import time

import pytest

from guardrail.errors import PromptError
from guardrail.models import chat_template as template_rendering
from guardrail.models.prompt import encode_prompt
from guardrail.utils.threads import TimeLimitReached, time_limit
from tests.support.tiny import tiny_tokenizer

FINE = "{% for m in messages %}{{ m.content }}{% endfor %}"
LOOPS = {
    "nested": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "growing": "{% set n = namespace(t='aa') %}{% for a in range(99999) %}{% for b in range(99999) %}"
    "{% set n.t = n.t[:9] ~ 'a' %}{% endfor %}{% endfor %}",
    "calling itself": "{% macro m(k) %}{% for a in range(9) %}{{ m(k + 1) if k < 9 }}{% endfor %}"
    "{% endmacro %}{{ m(0) }}",
}


@pytest.mark.parametrize("loop", LOOPS)
def test_a_template_without_an_end_is_stopped(monkeypatch, loop):
    monkeypatch.setattr(template_rendering, "LONGEST_RENDERING_S", 0.3)
    tokenizer = tiny_tokenizer(LOOPS[loop] + FINE)
    began = time.monotonic()
    with pytest.raises(PromptError, match=r"chat template was stopped after 0\.3 s\. Mend chat_template"):
        encode_prompt(tokenizer, "Hello")
    assert time.monotonic() - began < 10
    tokenizer.chat_template = FINE
    assert encode_prompt(tokenizer, "Hello").ids


def test_nothing_is_stopped_behind_the_block():
    with time_limit(0.05):
        pass
    time.sleep(0.1)


def test_what_is_stopped_is_stopped_in_its_own_thread():
    ended = []

    def run():
        try:
            with time_limit(0.05):
                while True:
                    pass
        except TimeLimitReached:
            ended.append(threading.current_thread().name)

    thread = threading.Thread(target=run, name="endless")
    thread.start()
    thread.join(30)
    assert ended == ["endless"]


def test_an_error_of_the_block_is_its_own():
    with pytest.raises(KeyError), time_limit(5):
        raise KeyError("a")


def test_a_limit_within_another_does_not_lengthen_it():
    def endless():
        while True:
            with time_limit(30):
                while True:
                    pass

    began = time.monotonic()
    with pytest.raises(TimeLimitReached), time_limit(0.2):
        endless()
    assert time.monotonic() - began < 10


def test_whatever_is_stopped_again_and_again_goes_on_when_traced():
    """As a debugger and coverage trace it: CPython 3.11 has stood still here."""
    here = sys.gettrace()
    sys.settrace(lambda *_: None)
    threading.settrace(lambda *_: None)
    try:
        for _ in range(60):
            with contextlib.suppress(TimeLimitReached), time_limit(0.001):
                while True:
                    str(1)
    finally:
        sys.settrace(here)
        threading.settrace(here)
