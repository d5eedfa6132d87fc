"""What a type checker sees of a guarded chain and of its verdict."""

import re
from pathlib import Path

import pytest
from mypy import api

APP = """
from langchain_core.language_models import BaseChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import Runnable, RunnableLambda

from guardrail.langchain import UncertaintyGuard, get_uncertainty_callback, verdict_of


def app(guard: UncertaintyGuard, model: BaseChatModel, chain: Runnable[int, list[str]]) -> None:
    reveal_type(guard.wrap(chain))
    reveal_type(guard.wrap(chain).invoke(1))
    reveal_type(guard.wrap(model | StrOutputParser()).invoke("Who?"))
    reveal_type(guard.wrap(model).invoke("Who?"))
    reveal_type(guard.wrap(RunnableLambda(len)).invoke([]))
    guard.wrap(chain).invoke("one")
    reveal_type(guard.wrap({"text": chain}).invoke(1))
    verdict = verdict_of(model.invoke("Who?"))
    assert verdict is not None
    reveal_type(verdict["confidence"])
    verdict["confidenze"]
    with get_uncertainty_callback() as verdicts:
        reveal_type(verdicts[-1]["enforced"])
"""
REVEALED = [
    "GuardedChain[int, list[str]]",
    "list[str]",
    "str",
    "AIMessage",
    "int",
    "dict[str, Any]",
    "float | None",
    "bool",
]


@pytest.mark.slow
def test_a_guarded_chain_keeps_the_types_of_its_chain_and_a_verdict_has_types(tmp_path):
    file = tmp_path / "app.py"
    file.write_text(APP)
    root = Path(__file__).parents[2]
    # With the same options, so that what is cached of the package is used.
    found, problems, _ = api.run([str(file), "--config-file", str(root / "pyproject.toml")])
    assert problems == ""
    revealed = [re.sub(r"\b(?:[a-z_]+\.)+", "", one) for one in re.findall(r'Revealed type is "(.*)"', found)]
    assert revealed == REVEALED
    errors = re.findall(r"error: .*\[(.*)\]", found)
    assert errors == ["arg-type", "typeddict-item"], found
