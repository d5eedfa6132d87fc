"""A model that is wrapped is somebody else: no profile holds for its answers unless somebody declares it."""

import asyncio

import pytest
from langchain_core.language_models import FakeListChatModel, FakeListLLM
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser

from guardrail.calibration.profile import write_profile
from guardrail.errors import OptionError
from guardrail.langchain import ChatGuardrail, UncertaintyGuard, get_uncertainty_callback
from guardrail.langchain.middleware import UncertaintyMiddleware
from tests.support.guards import policy_of, profile_of, tiny
from tests.support.wrapping import BOOK, PROMPT, OtherModel, other_model

CERTIFIED = {
    "id": "certified",
    "when": {"certified": {"max_error": 0.1, "confidence": 0.9}},
    "action": "pass",
}
SURE = {"id": "sure", "when": {"confidence": {"gte": 0.5}}, "action": "pass"}
WITHHELD = {"id": "default", "action": "abstain", "message": "At {confidence:.0%}."}
OUTSIDE = {"action": "abstain", "message": "Not shown, at {confidence:.0%}."}
SAID = "Goethe wrote Faust."

pytestmark = pytest.mark.usefixtures("one_thread")


def policy(folder, of=None, generation=None, **fields):
    """A policy whose profile is sure of everything; of the tiny model's answers, or another's."""
    path = folder / "profile.json"
    made = profile_of(intercept=4.0, generation=generation)
    write_profile(made.model_copy(update={"answered_by": of}), path)
    values = {"profile": str(path), "on_uncalibrated": "flag", "on_outside_domain": OUTSIDE, **fields}
    return policy_of(CERTIFIED, SURE, WITHHELD, **values).found_at(path)


def asked(chain, how="invoke"):
    """What a chain gives, and the verdict."""
    with get_uncertainty_callback() as verdicts:
        if how == "invoke":
            said = chain.invoke(BOOK)
        elif how == "ainvoke":
            said = asyncio.run(chain.ainvoke(BOOK))
        else:
            said = "".join(map(str, chain.stream(BOOK)))
    return said, verdicts[-1]


def named(name, **fields):
    """A model whose answers say what it is."""
    return other_model(
        AIMessage(SAID, response_metadata={"model_name": name, "finish_reason": "stop"}), **fields
    )


class Requested(OtherModel):
    """A model that is asked for by a name, and whose answers say nothing of it."""

    model: str = "gpt-4o-mini"


class Warm(OtherModel):
    """A model that is asked to draw at a temperature."""

    temperature: float

    @property
    def _identifying_params(self):
        return {"temperature": self.temperature}


@pytest.mark.parametrize(("temperature", "rule"), [(0.0, "sure"), (0.9, "on_outside_domain")])
def test_what_is_declared_and_drawn_at_another_temperature_is_outside(tmp_path, temperature, rule):
    guard = UncertaintyGuard(policy(tmp_path, generation={"temperature": 0.0}), tiny(), answered_by="tiny")
    model = Warm(messages=[AIMessage(SAID)], temperature=temperature)
    _, verdict = asked(guard.wrap(PROMPT | model | StrOutputParser()))
    assert verdict["rule"] == rule
    assert verdict["domain"] == (["temperature"] if temperature else [])


MODELS = {
    "a fake": (lambda: FakeListChatModel(responses=[SAID]), "FakeListChatModel"),
    "a completion model": (lambda: FakeListLLM(responses=[SAID]), "FakeListLLM"),
    "one that its answer names": (lambda: named("gpt-4o-mini-2024-07-18"), "gpt-4o-mini-2024-07-18"),
    "one that its request names": (lambda: Requested(messages=[AIMessage(SAID)]), "gpt-4o-mini"),
    # A server may have other weights under the same name.
    "one that is called as the local model is": (lambda: named("tiny"), "tiny"),
    "a function that says what it likes": (lambda: named("a\x1b[31m\nb" + "x" * 300), "a [31m bxxx"),
}


@pytest.mark.parametrize("how", ["invoke", "ainvoke", "stream"])
@pytest.mark.parametrize(("model", "name"), MODELS.values(), ids=MODELS)
def test_what_another_model_says_is_never_certified(tmp_path, model, name, how):
    guard = UncertaintyGuard(policy(tmp_path), tiny())
    said, verdict = asked(guard.wrap(PROMPT | model() | StrOutputParser()), how)
    assert said == "Not shown, at unknown."
    assert (verdict["action"], verdict["rule"]) == ("abstain", "on_outside_domain")
    assert (verdict["confidence"], verdict["guarantees"], verdict["quantiles"]) == (None, None, {})
    assert verdict["scores"]["hybridgrad"] > 0
    assert verdict["answered_by"].startswith(name)
    assert len(verdict["answered_by"]) <= 80
    assert verdict["answered_by"].isprintable()
    assert f"the answer is from {verdict['answered_by']}, but the profile is for tiny" in verdict["reason"]
    assert verdict["model"] == "tiny"


@pytest.mark.parametrize(
    ("of", "declared", "model"),
    [
        (None, "tiny", FakeListChatModel(responses=[SAID])),
        (None, "Tiny", FakeListLLM(responses=[SAID])),
        (None, "tiny", named("tiny")),
        (None, {"served": "tiny"}, named("served")),
        (None, {"FakeListChatModel": "tiny"}, FakeListChatModel(responses=[SAID])),
        ("gpt-4o-mini", "gpt-4o-mini", named("gpt-4o-mini")),
        # A request may leave out the date of a release.
        ("gpt-4o-mini", "gpt-4o-mini", named("gpt-4o-mini-2024-07-18")),
        ("gpt-4o-mini", "gpt-4o-mini", Requested(messages=[AIMessage(SAID)])),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini-2024-07-18", Requested(messages=[AIMessage(SAID)])),
        ("mine", {"gpt-4o-mini": "mine"}, Requested(messages=[AIMessage(SAID)])),
    ],
)
def test_an_answer_that_is_declared_to_be_of_the_profiles_model_has_its_confidence(
    tmp_path, of, declared, model
):
    guard = UncertaintyGuard(policy(tmp_path, of), tiny(), answered_by=declared)
    said, verdict = asked(guard.wrap(PROMPT | model | StrOutputParser()))
    assert (said, verdict["action"], verdict["rule"]) == (SAID, "pass", "sure")
    assert verdict["confidence"] > 0.9
    assert verdict["outside_domain"] == ""
    # The profile holds, and its guarantee does once enough answers were compared.
    assert verdict["familiar"] == "untried"
    assert "too few to compare: 1 of" in verdict["uncertified"]


@pytest.mark.parametrize(
    ("of", "declared", "model"),
    [
        (None, "tiny", named("gpt-4o")),
        (None, "tiny", named("tiny-2")),
        (None, "tiny", Requested(messages=[AIMessage(SAID)])),
        # What was asked for and what answered are two.
        (None, "tiny", Requested(messages=[AIMessage(SAID, response_metadata={"model_name": "tiny"})])),
        (None, "tiny", other_model(AIMessage(SAID, response_metadata={"model": "gpt-4o"}))),
        (None, "tiny", other_model(AIMessage(SAID, response_metadata={"model_id": "gpt-4o"}))),
        (None, {"served": "tiny"}, named("another")),
        (None, {"served": "tiny"}, FakeListChatModel(responses=[SAID])),
        (None, {"gpt-4o-mini": "tiny", "b": "gpt-4o"}, named("b")),
        ("gpt-4o-mini", "gpt-4o-mini", named("gpt-4o-mini-audio")),
        ("gpt-4o-mini", "gpt-4o", named("gpt-4o-2024-08-06")),
        ("gpt-4o-mini", "tiny", FakeListChatModel(responses=[SAID])),
    ],
)
def test_a_declaration_that_the_answer_contradicts_or_of_another_model_is_not_believed(
    tmp_path, of, declared, model
):
    guard = UncertaintyGuard(policy(tmp_path, of), tiny(), answered_by=declared)
    said, verdict = asked(guard.wrap(PROMPT | model | StrOutputParser()))
    assert said == "Not shown, at unknown."
    assert (verdict["rule"], verdict["confidence"]) == ("on_outside_domain", None)


def test_of_several_models_each_is_its_own_author(tmp_path):
    guard = UncertaintyGuard(policy(tmp_path, combine="worst"), tiny(), answered_by={"served": "tiny"})
    chain = PROMPT | named("gpt-4o") | (lambda message: message.text) | named("served")
    with get_uncertainty_callback() as verdicts:
        guard.wrap(chain).invoke(BOOK)
    assert [(one["answered_by"], one["rule"]) for one in verdicts] == [
        ("gpt-4o", "on_outside_domain"),
        ("tiny", "sure"),
    ]


def test_without_a_profile_anothers_answer_is_outside_of_every_domain():
    guard = UncertaintyGuard(policy_of(SURE, WITHHELD, on_uncalibrated="flag"), tiny())
    _, verdict = asked(guard.wrap(PROMPT | FakeListChatModel(responses=[SAID])))
    assert (verdict["action"], verdict["rule"]) == ("abstain", "on_outside_domain")
    guard = UncertaintyGuard(policy_of(SURE, WITHHELD, on_uncalibrated="flag"), tiny(), answered_by="tiny")
    _, verdict = asked(guard.wrap(PROMPT | FakeListChatModel(responses=[SAID])))
    assert (verdict["action"], verdict["rule"]) == ("flag", "on_uncalibrated")


@pytest.mark.parametrize("observes", [True, False])
def test_the_local_models_own_answers_stay_its_own(tmp_path, observes):
    judged = policy(tmp_path)
    inner = judged.model_copy(update={"mode": "observe"}) if observes else judged
    # Without a verdict of a guard that enforces this policy the answer is read again.
    chat = ChatGuardrail(model=tiny(), policy=inner, max_tokens=6)
    _, verdict = asked(UncertaintyGuard(judged, tiny()).wrap(PROMPT | chat))
    assert (verdict["rule"], verdict["answered_by"], verdict["outside_domain"]) == ("sure", "tiny", "")


@pytest.mark.parametrize(("declared", "rule"), [(None, "on_outside_domain"), ("tiny", "sure")])
def test_a_model_of_an_agent_is_somebody_else_unless_declared(tmp_path, declared, rule):
    from langchain.agents import create_agent

    guard = UncertaintyMiddleware(policy(tmp_path), tiny(), answered_by=declared)
    agent = create_agent(FakeListChatModel(responses=[SAID]), [], middleware=[guard])
    message = agent.invoke({"messages": [("user", "Who wrote Faust?")]})["messages"][-1]
    verdict = message.response_metadata["uncertainty"]
    assert verdict["rule"] == rule
    assert message.text == (SAID if declared else "Not shown, at unknown.")


@pytest.mark.parametrize("declared", ["", " ", {"a": ""}, {"": "a"}, 3, {"a": None}, {"a": 3}, "a\nb"])
@pytest.mark.parametrize("guard", [UncertaintyGuard, UncertaintyMiddleware])
def test_a_declaration_that_names_nobody_is_refused(guard, declared):
    with pytest.raises(OptionError, match="answered_by"):
        guard(policy_of(WITHHELD), tiny(), answered_by=declared)
