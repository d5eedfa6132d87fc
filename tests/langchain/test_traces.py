"""Runs in a trace say what was decided, by which a tracer's filters can go."""

import pytest
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser

from guardrail.langchain import get_uncertainty_callback
from tests.support.agents import ASKED as AGENT_ASKED
from tests.support.agents import Agent
from tests.support.chat_models import ABSTAIN, chat_of
from tests.support.doors import DOORS, Tracer
from tests.support.guards import ASKED, PASS
from tests.support.wrapping import BOOK, PROMPT, guard, other_model

pytestmark = pytest.mark.usefixtures("one_thread")

WAYS = pytest.mark.parametrize("door", ["invoke", "ainvoke", "stream", "astream"])
RULES = pytest.mark.parametrize("rule", [PASS, ABSTAIN], ids=["shown", "withheld"])

TOLD = ("action", "confidence", "rule", "enforced", "request")


def told(run):
    metadata = (run.extra or {}).get("metadata") or {}
    return {key: value for key, value in metadata.items() if key.startswith("uncertainty_")}


def expected(verdict):
    return {
        "uncertainty_action": verdict["action"],
        "uncertainty_confidence": verdict["confidence"],
        "uncertainty_rule": verdict["rule"],
        "uncertainty_enforced": True,
        "uncertainty_request": verdict["request"],
    }


@WAYS
@RULES
def test_the_run_of_a_guarded_model_has_its_verdict(rule, door):
    tracer, chat = Tracer(), chat_of(rule)
    with get_uncertainty_callback() as verdicts:
        DOORS[door](chat, ASKED, {"callbacks": [tracer]})
    (run,) = tracer.kept
    assert len(verdicts[0]["request"]) == 32
    if "stream" not in door:
        assert told(run) == expected(verdicts[0])
        return
    # LangChain tells a model nothing of the run that it streams for.
    message = run.outputs["generations"][0][0]["message"]["kwargs"]
    carried = message["response_metadata"]["uncertainty"]
    assert {f"uncertainty_{key}": carried[key] for key in TOLD} == expected(verdicts[0])


@WAYS
@RULES
def test_the_runs_of_a_wrapped_chain_have_its_verdict(rule, door):
    tracer = Tracer()
    chain = guard(rule).wrap(PROMPT | other_model() | StrOutputParser())
    with get_uncertainty_callback() as verdicts:
        DOORS[door](chain, BOOK, {"callbacks": [tracer]})
    (root,) = tracer.kept
    assert told(root) == expected(verdicts[0])
    models = [run for run in tracer.runs() if run.run_type in ("llm", "chat_model")]
    assert [told(run) for run in models] == [expected(verdicts[0])]


@pytest.mark.parametrize("how", ["sync", "async"])
@RULES
def test_the_run_of_an_agents_model_has_its_verdict(rule, how):
    tracer = Tracer()
    agent = Agent(rule, script=[AIMessage("It is far.")])
    with get_uncertainty_callback() as verdicts:
        agent.invoke(AGENT_ASKED, {"callbacks": [tracer]}, how=how)
    runs = [run for run in tracer.runs() if told(run)]
    assert [told(run) for run in runs] == [expected(verdicts[0])]
    assert runs[0].run_type in ("llm", "chat_model")
