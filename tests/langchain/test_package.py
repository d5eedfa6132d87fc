"""What importing the package brings, and what it says where something is missing."""

import subprocess
import sys

import pytest

import guardrail.langchain
from guardrail.errors import MissingDependencyError
from guardrail.langchain import ChatGuardrail
from guardrail.models.decoding import held_to, json_grammar


def test_everything_is_imported_without_torch():
    program = "import sys; from guardrail.langchain import *; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_all_names_are_there_and_no_others():
    for name in guardrail.langchain.__all__:
        assert getattr(guardrail.langchain, name)
    assert guardrail.langchain.ChatGuardrail is ChatGuardrail
    with pytest.raises(AttributeError, match="no attribute 'Chat'"):
        guardrail.langchain.Chat  # noqa: B018


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "langchain_core.callbacks", None)
    monkeypatch.delitem(sys.modules, "guardrail.langchain.chat_model")
    monkeypatch.delattr(guardrail.langchain, "ChatGuardrail")
    with pytest.raises(
        MissingDependencyError, match=r'langchain_core.*pip install "guardrail-llm\[agents\]"'
    ):
        guardrail.langchain.ChatGuardrail  # noqa: B018


def test_a_schema_needs_a_package_that_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    for use in (lambda: json_grammar({"type": "object"}), lambda: held_to("start: /a/")):
        with pytest.raises(MissingDependencyError, match="llguidance"):
            use()
