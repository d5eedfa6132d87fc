"""LangChain's own tests for chat models, over real weights, with and without a template that shows tools.

No test is changed. What is switched off says why, as does the one that is expected to fail.
"""

from copy import copy
from functools import cache

import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from guardrail.langchain import ChatGuardrail
from guardrail.models.local import LocalModel
from guardrail.policy.load import load_policy
from tests.support.templates import HERMES

pytestmark = [pytest.mark.slow, pytest.mark.untraced]


@pytest.fixture
def vcr():
    """What langchain-tests asks for before it finds that nothing is recorded here."""


@cache
def weights():
    return LocalModel.load("smollm2-135m")


@cache
def weights_that_call():
    """The same weights with a template that shows tools: they were not trained for it, but must call any."""
    model = weights()
    tokenizer = copy(model.tokenizer)
    tokenizer.chat_template = HERMES
    return LocalModel(model.model, tokenizer, "smollm2-135m-hermes")


@cache
def policy():
    """The default policy, which only observes: it would withhold most of what such small weights say."""
    return load_policy("builtin:default").model_copy(update={"mode": "observe"})


class _OverWeights:
    @property
    def chat_model_class(self):
        return ChatGuardrail

    @property
    def has_tool_calling(self):
        return False  # SmolLM2's chat template shows no tools to the model, so bind_tools refuses

    @property
    def supports_json_mode(self):
        return True

    @property
    def supports_model_override(self):
        return False  # a policy's profile is of one model: another one is another ChatGuardrail


class TestUnit(_OverWeights, ChatModelUnitTests):
    @property
    def chat_model_params(self):
        return {"model": weights(), "policy": policy()}


class TestIntegration(_OverWeights, ChatModelIntegrationTests):
    @property
    def chat_model_params(self):
        return {"model": weights(), "policy": policy(), "max_tokens": 32}


class _OverWeightsThatCall(_OverWeights):
    @property
    def has_tool_calling(self):
        return True

    @property
    def has_structured_output(self):
        return False  # the same as above, where the template shows no tools


class TestToolsUnit(_OverWeightsThatCall, ChatModelUnitTests):
    @property
    def chat_model_params(self):
        return {"model": weights_that_call(), "policy": policy()}


class TestTools(_OverWeightsThatCall, ChatModelIntegrationTests):
    @property
    def chat_model_params(self):
        return {"model": weights_that_call(), "policy": policy(), "max_tokens": 64}

    @pytest.mark.xfail(reason="gives the model the choice, and the weights were not trained to call tools")
    def test_agent_loop(self, model):
        super().test_agent_loop(model)
