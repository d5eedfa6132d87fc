import sys

import pytest

from guardrail.errors import EscalationError, MissingDependencyError
from guardrail.escalation.routing import named_target
from guardrail.policy.model import Target


def test_without_langchain_the_error_names_the_pip_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "langchain.chat_models", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'guardrail-llm\[agents\]'"):
        named_target(Target(chat_model="openai:gpt-5"))


def test_without_the_providers_package_its_pip_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "langchain_openai", None)
    with pytest.raises(MissingDependencyError, match="pip install langchain-openai"):
        named_target(Target(chat_model="openai:gpt-5"))


def test_a_name_that_no_provider_has_is_an_error_when_it_is_opened():
    with pytest.raises(EscalationError, match="nobody:knows-this"):
        named_target(Target(chat_model="nobody:knows-this"))
