"""What docstrings show runs as it stands there."""

import doctest
from importlib import import_module
from pkgutil import walk_packages

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langgraph.checkpoint.memory import InMemorySaver

import guardrail.langchain
from guardrail.langchain import ChatGuardrail

NAMES = [module.name for module in walk_packages(guardrail.langchain.__path__, "guardrail.langchain.")]
EXAMPLES = [
    example
    for name in ["guardrail.langchain", *NAMES]
    for example in doctest.DocTestFinder().find(import_module(name))
    if example.examples
]


def test_what_people_begin_with_has_an_example():
    shown = {example.name.rpartition(".")[2] for example in EXAMPLES}
    assert shown >= {"ChatGuardrail", "UncertaintyGuard", "UncertaintyMiddleware", "get_uncertainty_callback"}


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_runs(example):
    """Its results are not compared: they are the weights'."""
    names = {
        **{name: getattr(guardrail.langchain, name) for name in guardrail.langchain.__all__},
        "ChatPromptTemplate": ChatPromptTemplate,
        "HumanInTheLoopMiddleware": HumanInTheLoopMiddleware,
        "InMemorySaver": InMemorySaver,
        "StrOutputParser": StrOutputParser,
        "create_agent": create_agent,
        "model": ChatGuardrail(policy="builtin:default", max_tokens=8),
        "prompt": ChatPromptTemplate.from_template("{question}"),
        "question": {"question": "Who wrote Faust?"},
        "tools": [],
    }
    for one in example.examples:
        exec(compile(one.source, example.name, "single"), names)
