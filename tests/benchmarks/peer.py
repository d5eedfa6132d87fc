"""LangChain's own tests over ChatHuggingFace, with the weights of ``tests/langchain/test_standard.py``.

    pip install langchain-huggingface langchain-tests pytest-asyncio
    pytest tests/benchmarks/peer.py -o asyncio_mode=auto -o filterwarnings=default

It is no test of this project: its count stands in the README beside ours.
"""

from functools import cache

from langchain_huggingface import ChatHuggingFace, HuggingFacePipeline
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests
from transformers import pipeline

from guardrail.models.local import LocalModel


@cache
def weights():
    local = LocalModel.load("smollm2-135m")
    generator = pipeline("text-generation", model=local.model, tokenizer=local.tokenizer, max_new_tokens=24)
    return HuggingFacePipeline(pipeline=generator)


class _OverWeights:
    @property
    def chat_model_class(self):
        return ChatHuggingFace

    @property
    def chat_model_params(self):
        return {"llm": weights()}

    @property
    def has_tool_calling(self):
        return False  # the template of these weights shows no tools

    @property
    def has_structured_output(self):
        return False  # likewise


class TestUnit(_OverWeights, ChatModelUnitTests):
    pass


class TestIntegration(_OverWeights, ChatModelIntegrationTests):
    pass
