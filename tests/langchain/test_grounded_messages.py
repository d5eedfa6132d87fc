import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableLambda

from guardrail.langchain.chat_model import ChatGuardrail
from guardrail.langchain.message_conversion import prompt_of
from guardrail.langchain.verdicts import verdict_of
from guardrail.langchain.wrapper import UncertaintyGuard
from tests.support.grounded import DOCUMENT, GROUNDED, OTHERWISE, SURE, UNDECLARED, grounded_profile
from tests.support.guards import policy_of, tiny
from tests.support.wrapping import other_model

pytestmark = pytest.mark.usefixtures("one_thread")

CONTENT = GROUNDED[0]["content"]
DECLARED = HumanMessage(CONTENT, additional_kwargs={"document": DOCUMENT})


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    path = grounded_profile(tmp_path_factory.mktemp("grounded") / "profile.json")
    return policy_of(SURE, OTHERWISE, profile=str(path)).found_at(path)


def test_a_message_brings_the_document_along_that_it_declares():
    system = SystemMessage(f"Go by: {DOCUMENT}", additional_kwargs={"document": DOCUMENT})
    assert [one.get("document") for one in prompt_of([system, DECLARED])] == [DOCUMENT, DOCUMENT]
    # A provider's own field of that name is none of an app's declarations.
    theirs = AIMessage("Yes.", additional_kwargs={"document": "x"})
    result = ToolMessage("Yes.", tool_call_id="1", additional_kwargs={"document": "x"})
    assert all("document" not in one for one in prompt_of([theirs, result, HumanMessage(CONTENT)]))


def test_a_chat_model_goes_by_the_declared_document(policy):
    chat = ChatGuardrail(model=tiny(), policy=policy, max_tokens=4)
    verdict = verdict_of(chat.invoke([DECLARED]))
    assert verdict["rule"] == "sure"
    assert isinstance(verdict["scores"]["document_gain"], float)
    (streamed,) = [one for one in chat.stream([DECLARED]) if "uncertainty" in one.response_metadata]
    assert verdict_of(streamed)["scores"]["document_gain"] == verdict["scores"]["document_gain"]


@pytest.mark.parametrize("asked", [CONTENT, UNDECLARED, [HumanMessage(CONTENT)]])
def test_without_a_declaration_a_chat_model_withholds(policy, asked):
    chat = ChatGuardrail(model=tiny(), policy=policy, max_tokens=4)
    verdict = verdict_of(chat.invoke(asked))
    assert (verdict["rule"], verdict["domain"]) == ("on_outside_domain", ["document"])


@pytest.mark.parametrize(
    ("messages", "rule"), [([DECLARED], "sure"), ([HumanMessage(CONTENT)], "on_outside_domain")]
)
def test_a_wrapped_chain_is_judged_by_the_prompt_that_its_model_got(tmp_path, messages, rule):
    # The name that the other model's own metadata gives.
    path = grounded_profile(tmp_path / "profile.json", answered_by="o")
    policy = policy_of(SURE, OTHERWISE, profile=str(path)).found_at(path)
    chain = RunnableLambda(lambda _: messages) | other_model("Goethe wrote it.")
    guarded = UncertaintyGuard(policy, tiny(), answered_by="o").wrap(chain)
    verdict = verdict_of(guarded.invoke("Who wrote it?"))
    assert (verdict["rule"], verdict["domain"]) == (rule, [] if rule == "sure" else ["document"])
