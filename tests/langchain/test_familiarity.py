"""What guards of LangChain know of the traffic: kept over a restart, divided by tags, shared by copies."""

import copy
import json

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessage
from langchain_core.runnables import ConfigurableField

from guardrail.calibration.familiarity import ENOUGH
from guardrail.calibration.profile import read_profile
from guardrail.errors import ProfileError
from guardrail.langchain import ChatGuardrail, UncertaintyGuard, UncertaintyMiddleware, verdict_of
from tests.support.guards import ASKED, familiar_with, policy_of, profile_file, tiny
from tests.support.states import resealed
from tests.support.wrapping import other_model

CERTIFIED = {
    "id": "certified",
    "when": {"certified": {"max_error": 0.1, "confidence": 0.9}},
    "action": "pass",
}
DEFAULT = {"id": "default", "action": "abstain", "message": "Not sure."}
SAID = AIMessage("Goethe wrote it.")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(name="policy")
def _policy(tmp_path):
    path = profile_file(tmp_path, intercept=2.0)
    return policy_of(CERTIFIED, DEFAULT, profile=str(path), streams=["tenant-*"]).found_at(path)


@pytest.fixture(name="known")
def _known(policy):
    """What is known of a tenant that asks as the profile's questions do."""
    return familiar_with(read_profile(policy.profile_path), ("tenant-a",), patterns=["tenant-*"])


def unlike(known):
    changed = copy.deepcopy(known)
    changed["streams"][0]["compared"]["highest"] = 100.0
    return resealed(changed)


def chat_model(policy, known=None, **fields):
    return ChatGuardrail(model=tiny(), policy=policy, familiarity=known, max_tokens=4, **fields)


def by_chat_model(policy, known):
    chat = chat_model(policy, known)

    def ask(tag):
        return verdict_of(chat.invoke(ASKED, policy_tags=[tag]))

    return ask, lambda: chat.guard.familiarity, chat


def by_chain(policy, known):
    guard = UncertaintyGuard(policy, tiny(), answered_by="tiny", familiarity=known)
    chain = guard.wrap(other_model(SAID))

    def ask(tag):
        return verdict_of(chain.invoke(ASKED, {"tags": [tag]}))

    return ask, lambda: guard.familiarity, guard


def by_agent(policy, known):
    guard = UncertaintyMiddleware(policy, tiny(), answered_by="tiny", familiarity=known)
    agent = create_agent(other_model(SAID), middleware=[guard])

    def ask(tag):
        return verdict_of(agent.invoke({"messages": [("user", ASKED)]}, {"tags": [tag]})["messages"][-1])

    return ask, lambda: guard.familiarity, guard


DOORS = pytest.mark.parametrize("door", [by_chat_model, by_chain, by_agent])


@DOORS
def test_what_is_known_is_given_goes_on_and_is_had_again(policy, known, door):
    ask, familiarity, made = door(policy, known)
    assert [ask(tag)["familiar"] for tag in ("tenant-a", "tenant-b", "web")] == [
        "familiar",
        "untried",
        "untried",
    ]
    assert ask("tenant-a")["rule"] == "certified"
    assert ask("tenant-b")["rule"] == "default"
    kept = json.loads(json.dumps(familiarity()))
    counted = {tuple(one["tags"]): one["compared"]["n"] for one in kept["streams"]}
    assert counted == {("tenant-a",): ENOUGH + 2, ("tenant-b",): 2, (): 1}
    _, again, _ = door(policy, kept)
    assert again() == kept
    # What a pickle is made of; the model in it is open, and none.
    state = made.__getstate__()
    assert kept in state.get("__dict__", state).values()


@DOORS
def test_without_it_or_after_an_alarm_nothing_is_certified(policy, known, door):
    for given, familiar in ((None, "untried"), (unlike(known), "unlike")):
        ask, _, _ = door(policy, given)
        verdict = ask("tenant-a")
        assert (verdict["rule"], verdict["familiar"], verdict["guarantees"]) == ("default", familiar, [])


@DOORS
def test_what_is_known_of_another_profile_is_refused(policy, tmp_path, door):
    other = tmp_path / "other"
    other.mkdir()
    known = familiar_with(read_profile(profile_file(other, intercept=1.0)))
    for given, said in ((known, "of another profile"), ("familiar", "cannot be read")):
        with pytest.raises(ProfileError, match=said):
            door(policy, given)


def test_copies_of_a_chat_model_learn_together(policy, known):
    chat = chat_model(policy, known)
    others = [
        chat.model_copy(update={"batch_size": 2}),
        copy.deepcopy(chat),
        # Makes a chat model anew for each call.
        chat.configurable_fields(batch_size=ConfigurableField("size")).with_config(configurable={"size": 3}),
    ]
    for other in others:
        assert verdict_of(other.invoke(ASKED, policy_tags=["tenant-a"]))["rule"] == "certified"
    (stream,) = chat.guard.familiarity["streams"]
    assert stream["compared"]["n"] == ENOUGH + len(others)
    chat.familiarity = unlike(known)
    assert verdict_of(chat.invoke(ASKED, policy_tags=["tenant-a"]))["familiar"] == "unlike"


def test_the_cache_forgets_a_certified_answer_when_the_traffic_is_found_to_be_unlike(policy, known):
    chat = chat_model(policy, known, cache=InMemoryCache(), policy_tags=["tenant-a"])
    for _ in range(2):
        assert verdict_of(chat.invoke(ASKED))["rule"] == "certified"
    (stream,) = chat.guard.familiarity["streams"]
    assert stream["compared"]["n"] == ENOUGH + 1
    chat.familiarity = unlike(known)
    assert verdict_of(chat.invoke(ASKED))["rule"] == "default"
