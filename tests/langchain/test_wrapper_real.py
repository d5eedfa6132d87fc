"""Guards around chains over the weights that come with the package."""

import asyncio

import pytest
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda

from guardrail.langchain import ChatGuardrail, UncertaintyGuard, get_uncertainty_callback, verdict_of
from guardrail.models.sampling import Sampling
from guardrail.policy.load import load_policy
from tests.support.guards import PASS, policy_of
from tests.support.wrapping import other_model

MODEL = "smollm2-135m"
PROMPT = ChatPromptTemplate.from_template("What is the capital of {country}?")
CALM = {"id": "calm", "when": {"uncertainty": {"mean_entropy": {"lt": 2.0}}}, "action": "pass"}
DOUBT = {"id": "doubt", "action": "abstain", "message": "I do not know."}
RIGHT, WRONG = "The capital of France is Paris.", "Quite the potato, as a purple Tuesday."

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def guard():
    return UncertaintyGuard(policy_of(CALM, DOUBT, scorer_model=MODEL))


def test_the_answer_of_another_model_is_shown_or_withheld_by_what_the_local_one_thinks_of_it(guard):
    def chain(answer):
        return guard.wrap(PROMPT | other_model(answer) | StrOutputParser())

    with get_uncertainty_callback() as verdicts:
        assert chain(RIGHT).invoke({"country": "France"}) == RIGHT
        assert asyncio.run(chain(WRONG).ainvoke({"country": "France"})) == "I do not know."
    right, wrong = verdicts
    assert right["scores"]["hybridgrad"] > 0
    assert right["scores"]["mean_entropy"] < wrong["scores"]["mean_entropy"]


def test_the_verdict_of_a_chat_model_with_the_same_policy_is_used_and_its_weights_are_shared(guard):
    chat = ChatGuardrail(model=MODEL, policy=guard.policy, max_tokens=12)
    carried = []
    noted = chat | RunnableLambda(lambda message: carried.append(verdict_of(message)) or message)
    wrapped = guard.wrap(PROMPT | noted | StrOutputParser())
    with get_uncertainty_callback() as verdicts:
        text = wrapped.invoke({"country": "France"})
        streamed = "".join(wrapped.stream({"country": "France"}))
    assert "Paris" in text
    assert streamed == text
    # It was read once: by the chat model.
    assert [verdict["request"] for verdict in verdicts] == [verdict["request"] for verdict in carried]
    alone = chat.guard.ask("What is the capital of France?", Sampling(max_tokens=12))
    assert verdicts[0]["scores"]["hybridgrad"] == pytest.approx(alone.uncertainty.hybridgrad, rel=1e-3)
    assert chat.guard.model is guard._open().model


def test_what_a_chat_model_with_a_guard_withheld_stays_withheld():
    chat = ChatGuardrail(model=MODEL, policy=policy_of(DOUBT), max_tokens=12)
    wrapped = UncertaintyGuard(policy_of(PASS), chat.guard.model).wrap(PROMPT | chat | StrOutputParser())
    assert wrapped.invoke({"country": "France"}) == "I do not know."


@pytest.mark.parametrize(
    "said", ["The capital of Australia is Sydney.", "The capital of Australia is Canberra."]
)
def test_the_profile_that_ships_certifies_nothing_that_another_model_says(said):
    policy = load_policy("builtin:default").model_copy(update={"scorer_model": MODEL})
    asked = {"country": "Australia"}
    with get_uncertainty_callback() as verdicts:
        withheld = UncertaintyGuard(policy).wrap(PROMPT | other_model(AIMessage(said))).invoke(asked)
        declared = UncertaintyGuard(policy, answered_by=MODEL).wrap(PROMPT | other_model(AIMessage(said)))
        declared.invoke(asked)
    other, own = verdicts
    assert said not in withheld.text
    assert (other["action"], other["rule"], other["confidence"]) == ("abstain", "on_outside_domain", None)
    assert "the answer is from OtherModel, but the profile is for smollm2-135m" in other["reason"]
    # Declared to be the model's own, it is judged as that.
    assert own["confidence"] is not None
    assert own["rule"] != "on_outside_domain"
    assert own["scores"] == other["scores"]
