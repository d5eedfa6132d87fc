"""The guard of an agent: what it lets through, whom it asks, what its errors come to."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from langchain.agents.middleware import AgentMiddleware, HumanInTheLoopMiddleware, hook_config
from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import BaseModel

from guardrail.errors import AbstainedError, OptionError
from guardrail.langchain import (
    ChatGuardrail,
    UncertaintyMiddleware,
    get_uncertainty_callback,
    verdict_of,
    when_uncertain,
)
from guardrail.langchain.answer_parts import parts_of
from guardrail.langchain.verdicts import sealed
from guardrail.langchain.wrapper import UncertaintyGuard
from guardrail.models.local import LocalModel
from guardrail.scoring.options import ScoringOptions
from tests.support.agents import (
    ABSTAIN,
    ASKED,
    CANARY,
    HUMAN,
    HUMAN_TARGET,
    SECRET,
    STRONG,
    STRONG_TARGET,
    THREAD,
    Agent,
    Scripted,
    calling,
    knows,
    said,
)
from tests.support.chat import tiny_chat
from tests.support.guards import PASS, policy_of, profile_file, tiny
from tests.support.wrapping import guarded_message

HOWS = pytest.mark.parametrize("how", ["sync", "async"])


class Place(BaseModel):
    """Where it is."""

    name: str


def judged(message, **verdict):
    """A message with a verdict that was given here on it."""
    plain = {"action": "pass", "rule": "own", "enforced": True, "message": None, "confidence": 0.5, **verdict}
    carried = sealed(plain, said=parts_of(message))
    return message.model_copy(update={"response_metadata": {"uncertainty": carried}})


class TestActing:
    @HOWS
    def test_what_passes_goes_on_and_carries_its_verdict(self, how):
        agent = Agent(script=[calling(), said("far away")])
        asked, first, result, last = agent.invoke(how=how)["messages"]
        assert isinstance(asked, HumanMessage)
        assert isinstance(result, ToolMessage)
        assert agent.places == [SECRET]
        assert [verdict_of(one)["action"] for one in (first, last)] == ["pass", "pass"]
        assert first.tool_calls
        assert CANARY in first.text

    def test_what_is_flagged_goes_on_with_the_warning_in_its_verdict(self):
        flag = {"id": "check", "action": "flag", "message": "Please check."}
        last = Agent(flag, script=[said()]).last()
        assert CANARY in last.text
        assert (verdict_of(last)["action"], verdict_of(last)["message"]) == ("flag", "Please check.")

    @HOWS
    def test_what_is_withheld_calls_no_tool_and_ends_the_agent(self, how):
        agent = Agent(ABSTAIN, script=[calling()])
        messages = agent.invoke(how=how)["messages"]
        assert [one.text for one in messages] == ["Where is it?", "I do not know."]
        assert messages[-1].tool_calls == []
        assert agent.places == []
        assert len(agent.model.asked) == 1
        assert not knows(messages)

    def test_rules_go_by_the_tools_that_are_called_and_by_tags(self):
        by_tool = {"id": "risky", "when": {"tool_call": ["look_*"]}, "action": "abstain"}
        assert Agent(by_tool, PASS, script=[calling()]).last().tool_calls == []
        assert Agent(by_tool, PASS, script=[said()]).last().text.startswith(CANARY)
        by_tag = {"id": "tagged", "when": {"tags": ["shop"]}, "action": "abstain"}
        assert verdict_of(Agent(by_tag, PASS, script=[said()], tags=["shop"]).last())["rule"] == "tagged"
        last = Agent(by_tag, PASS, script=[said()]).last(config={"tags": ["shop"]})
        assert verdict_of(last)["rule"] == "tagged"

    @HOWS
    def test_an_agent_that_would_ask_again_for_a_format_ends_as_well(self, how):
        call = AIMessage("", tool_calls=[{"name": "Place", "args": {"name": CANARY}, "id": "p1"}])
        agent = Agent(ABSTAIN, script=[call], tools=[], response_format=ToolStrategy(Place))
        state = agent.invoke(how=how)
        assert len(agent.model.asked) == 1
        assert state["structured_response"] is None
        assert not knows(state)
        passing = Agent(script=[call], tools=[], response_format=ToolStrategy(Place)).invoke(how=how)
        assert passing["structured_response"] == Place(name=CANARY)

    def test_a_policy_that_only_observes_changes_nothing(self):
        last = Agent(ABSTAIN, script=[said()], mode="observe").last()
        assert CANARY in last.text
        assert (verdict_of(last)["action"], verdict_of(last)["enforced"]) == ("abstain", False)

    def test_requests_at_the_same_time_do_not_mix(self):
        """Each of the threads gets the answer of the stronger model to its own question."""

        class Echo(Scripted):
            def _next(self, messages):
                return said(f"You asked {messages[-1].text}")

        strong = {"strong": Echo(script=[])}
        agent = Agent(STRONG, script=[said()], targets=strong, escalation=STRONG_TARGET)

        def ask(number):
            return agent.invoke({"messages": [("user", f"number {number}")]})["messages"][-1].text.strip()

        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(ask, range(16)))
        assert answers == [f"You asked number {number}" for number in range(16)]

    @HOWS
    def test_a_listener_is_told_of_each_verdict_once(self, how):
        with get_uncertainty_callback() as verdicts:
            Agent(script=[calling(), said("far away")]).invoke(how=how)
        assert [verdict["action"] for verdict in verdicts] == ["pass", "pass"]


class TestVerdictsOfTheModel:
    def test_a_model_with_a_guard_of_its_own_is_believed(self):
        # A scorer that makes everything an error would withhold it.
        own = guarded_message("Paris it is", by=UncertaintyGuard(policy_of(ABSTAIN)))
        last = Agent(ABSTAIN, script=[own]).last()
        assert (last.text, verdict_of(last)["rule"]) == ("Paris it is", "own")

    def test_under_another_policy_it_is_judged_again(self):
        assert Agent(ABSTAIN, script=[guarded_message("Paris it is")]).last().text == "I do not know."

    @pytest.mark.parametrize("action", ["abstain", "escalate"])
    def test_what_it_withheld_ends_the_agent(self, action):
        message = guarded_message("Its words.", action, message="Its words.")
        agent = Agent(script=[message], tools=[], response_format=ToolStrategy(Place))
        assert agent.last().text == "Its words."
        assert len(agent.model.asked) == 1

    def test_where_it_only_observes_the_policy_decides(self):
        own = guarded_message("Paris it is", by=UncertaintyGuard(policy_of(ABSTAIN)), enforced=False)
        assert Agent(ABSTAIN, script=[own]).last().text == "I do not know."


class TestChatGuardrail:
    """The tiny model itself as the agent's; it calls no tools."""

    @HOWS
    def test_what_its_own_policy_withholds_ends_the_agent(self, how):
        agent = Agent(script=ChatGuardrail(model=tiny(), policy=policy_of(ABSTAIN), max_tokens=4), tools=[])
        last = agent.last(how=how)
        assert (last.text, verdict_of(last)["rule"]) == ("I do not know.", "no")

    def test_where_it_observes_a_person_may_decide(self):
        observing = policy_of(ABSTAIN, mode="observe")
        chat = ChatGuardrail(model=tiny(), policy=observing, max_tokens=4)
        agent, request, _ = waiting(model=chat, scorer=chat.guard.model, tools=[])
        draft = request["action_requests"][0]["args"]["text"]
        assert draft == chat.invoke("Where is it?").text
        assert resumed(agent, {"type": "approve"})["messages"][-1].text == draft


class TestErrors:
    @HOWS
    def test_a_score_that_is_not_a_number_is_withheld(self, how):
        last = Agent(script=[said()], scorer=_broken_at(CANARY[0])).last(how=how)
        assert not knows(last)
        assert (verdict_of(last)["action"], verdict_of(last)["rule"]) == ("abstain", "on_error")

    @pytest.mark.parametrize("content", ["", [{"type": "image", "url": f"https://x/{CANARY}"}]])
    def test_an_answer_without_words_is_withheld(self, content):
        last = Agent(script=[AIMessage(content)]).last()
        assert verdict_of(last)["rule"] == "on_error"
        assert not knows(last)

    @pytest.mark.parametrize("uncertainty", [{"action": "pass"}, "pass", None])
    def test_what_is_no_verdict_is_not_believed(self, uncertainty):
        message = said(response_metadata={"uncertainty": uncertainty})
        assert Agent(ABSTAIN, script=[message]).last().text == "I do not know."

    def test_a_prompt_that_the_scorer_cannot_read_is_withheld(self):
        asked = {"messages": [HumanMessage([{"type": "image", "url": "https://x/y.png"}])]}
        last = Agent(script=[said()]).last(asked=asked)
        assert verdict_of(last)["rule"] == "on_error"
        assert not knows(last)

    @HOWS
    def test_the_error_of_a_model_that_gave_no_answer_stays_what_it_is(self, how):
        with pytest.raises(RuntimeError, match="The server is gone"):
            Agent(script=Scripted(script=[], fails=True)).invoke(how=how)

    @HOWS
    def test_an_error_that_may_quote_the_answer_is_not_passed_on(self, how):
        call = AIMessage("", tool_calls=[{"name": "Place", "args": {"nome": CANARY}, "id": "p1"}])
        form = ToolStrategy(Place, handle_errors=False)
        with pytest.raises(AbstainedError, match="could not be read") as raised:
            Agent(script=[call], tools=[], response_format=form).invoke(how=how)
        assert not knows(str(raised.value))
        assert raised.value.__context__ is None

    @pytest.mark.parametrize("arguments", [{"people": "email"}, {"tags": "shop"}])
    def test_arguments_that_are_none_are_refused(self, arguments):
        with pytest.raises(OptionError):
            UncertaintyMiddleware(policy_of(), tiny(), **arguments)

    @pytest.mark.parametrize(
        ("blocked", "name"),
        [
            ("langchain", "UncertaintyMiddleware"),
            ("langgraph", "UncertaintyMiddleware"),
            ("langchain", "when_uncertain"),
        ],
    )
    def test_a_missing_package_names_the_pip_command(self, blocked, name):
        code = f"import sys; sys.modules[{blocked!r}] = None\nfrom guardrail.langchain import {name}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "MissingDependencyError" in done.stderr.splitlines()[-1]
        assert 'pip install "guardrail-llm[agents]"' in done.stderr.splitlines()[-1]


def _broken_at(character):
    """A scorer that is no number after a character."""
    model, tokenizer = tiny_chat()
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer(character).input_ids] = float("nan")
    return LocalModel(model, tokenizer, "tiny")


class TestStrongerModels:
    @HOWS
    def test_one_is_asked_the_same_with_the_same_tools_and_the_agent_goes_on(self, how):
        strong = Scripted(script=[calling(text="", where="Paris"), said("Paris is far away")])
        agent = Agent(
            STRONG, script=[calling(), said()], targets={"strong": strong}, escalation=STRONG_TARGET
        )
        messages = agent.invoke(how=how)["messages"]
        assert agent.places == ["Paris"]
        assert not knows(messages)
        assert messages[-1].text.strip() == "Paris is far away"
        assert strong.asked == agent.model.asked
        assert strong.tools == agent.model.tools
        verdict = verdict_of(messages[-1])
        assert (verdict["action"], verdict["escalation"]["source"]) == ("escalate", "Scripted")

    @HOWS
    def test_one_that_fails_leaves_an_abstention(self, how):
        strong = Scripted(script=[], fails=True)
        agent = Agent(STRONG, script=[calling()], targets={"strong": strong}, escalation=STRONG_TARGET)
        last = agent.last(how=how)
        assert verdict_of(last)["action"] == "abstain"
        assert last.tool_calls == []
        assert agent.places == []
        assert not knows(last)

    @pytest.mark.parametrize("answer", [said(" "), guarded_message("No.", "abstain")])
    def test_one_that_says_nothing_or_is_withheld_itself_has_failed(self, answer):
        strong = Scripted(script=[answer])
        agent = Agent(STRONG, script=[said()], targets={"strong": strong}, escalation=STRONG_TARGET)
        assert verdict_of(agent.last())["action"] == "abstain"

    def test_one_that_takes_too_long_does_not_answer_later(self):
        slow = Scripted(script=[said("late")], takes_s=0.4)
        target = {"strong": {**STRONG_TARGET["strong"], "timeout_s": 0.05}}
        agent = Agent(STRONG, script=[said()], targets={"strong": slow}, escalation=target)
        assert verdict_of(agent.last())["action"] == "abstain"

    @HOWS
    def test_a_function_answers_with_its_text_and_the_agent_ends(self, how):
        target = {"strong": {"callable": "os:getcwd"}}
        agent = Agent(
            STRONG,
            script=[calling()],
            targets={"strong": lambda case: f"asked {case.messages[-1]['content']}"},
            escalation=target,
        )
        last = agent.last(how=how)
        assert last.text == "asked Where is it?"
        assert len(agent.model.asked) == 1


def resumed(agent, *decisions, how="sync"):
    return agent.invoke(Command(resume={"decisions": list(decisions)}), THREAD, how=how)


def waiting(*script, model=None, how="sync", **options):
    script = model or [*script]
    agent = Agent(HUMAN, script=script, escalation=HUMAN_TARGET, checkpointer=InMemorySaver(), **options)
    state = agent.invoke(ASKED, THREAD, how=how)
    return agent, state["__interrupt__"][0].value, state


def edit(name, **args):
    return {"type": "edit", "edited_action": {"name": name, "args": args}}


class TestPeople:
    @HOWS
    def test_a_person_is_shown_the_draft_and_what_is_known_of_it(self, how, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        _, request, state = waiting(calling(), how=how)
        (action,) = request["action_requests"]
        assert (action["name"], action["args"]) == ("look_up", {"place": SECRET})
        assert "Where is it?" in action["description"]
        assert CANARY in action["description"]
        assert request["review_configs"][0]["allowed_decisions"] == ["approve", "edit", "reject"]
        assert request["uncertainty"]["action"] == "escalate"
        assert not knows(state["messages"])
        assert "uncertainty_waiting" not in state
        assert not [*tmp_path.iterdir()]

    @HOWS
    def test_what_is_approved_goes_on_and_the_model_is_not_called_again(self, how):
        agent, _, _ = waiting(calling(), how=how)
        assert (len(agent.model.asked), agent.places) == (1, [])
        state = resumed(agent, {"type": "approve"}, how=how)
        # Once for the call, and once for what the tool gave, which is asked about as well.
        assert (len(agent.model.asked), agent.places) == (2, [SECRET])
        _, called, result, _ = state["messages"]
        assert called.tool_calls[0]["args"] == {"place": SECRET}
        assert isinstance(result, ToolMessage)
        verdict = verdict_of(called)
        assert (verdict["review"], verdict["escalation"]["source"]) == ("approve", "human review")

    @HOWS
    def test_what_is_edited_goes_on_as_the_person_put_it(self, how):
        agent, _, _ = waiting(calling(), how=how)
        state = resumed(agent, edit("look_up", place="Paris"), how=how)
        assert agent.places == ["Paris"]
        assert not knows(state["messages"], SECRET)
        agent, request, _ = waiting(said(), how=how)
        assert request["action_requests"][0]["args"] == {"text": f"{CANARY} it is"}
        state = resumed(agent, edit("answer", text="It is in Paris."), how=how)
        assert [one.text for one in state["messages"]] == ["Where is it?", "It is in Paris."]
        assert (len(agent.model.asked), verdict_of(state["messages"][-1])["review"]) == (1, "edit")

    @HOWS
    def test_what_is_rejected_is_withheld_and_ends_the_agent(self, how):
        agent, _, _ = waiting(calling(), how=how)
        messages = resumed(agent, {"type": "reject", "message": "Ask the desk."}, how=how)["messages"]
        assert [one.text for one in messages] == ["Where is it?", "Ask the desk."]
        assert (len(agent.model.asked), agent.places) == (1, [])
        assert not knows(messages)
        verdict = verdict_of(messages[-1])
        assert (verdict["action"], verdict["review"]) == ("abstain", "reject")

    @pytest.mark.parametrize(
        "decisions",
        [
            [],
            [{"type": "approve"}, {"type": "approve"}],
            [{"type": "respond", "message": "yes"}],
            [edit("answer", text=" ")],
            [edit("answer", words="Paris")],
            [edit("look_up", place="Paris")],
        ],
    )
    def test_a_reply_that_does_not_fit_is_refused_and_may_be_given_again(self, decisions):
        agent, _, _ = waiting(said())
        with pytest.raises(ValueError, match="validation error"):
            resumed(agent, *decisions)
        assert resumed(agent, {"type": "approve"})["messages"][-1].text.strip() == f"{CANARY} it is"

    def test_an_answer_of_a_fixed_format_is_approved_with_what_was_read_from_it(self):
        call = AIMessage("", tool_calls=[{"name": "Place", "args": {"name": CANARY}, "id": "p1"}])
        agent, request, state = waiting(call, response_format=ToolStrategy(Place))
        assert request["review_configs"][0]["allowed_decisions"] == ["approve", "reject"]
        assert state.get("structured_response") is None
        state = resumed(agent, {"type": "approve"})
        assert state["structured_response"] == Place(name=CANARY)
        assert len(agent.model.asked) == 1

    def test_an_answer_that_says_nothing_cannot_be_approved(self):
        on_error = {"action": "escalate", "to": "human"}
        agent, request, _ = waiting(AIMessage(""), on_error=on_error)
        assert request["review_configs"][0]["allowed_decisions"] == ["edit", "reject"]
        assert resumed(agent, edit("answer", text="Paris."))["messages"][-1].text == "Paris."

    def test_a_stronger_model_that_fails_leaves_it_to_a_person(self):
        target = {"strong": {**STRONG_TARGET["strong"], "on_error": "human"}, **HUMAN_TARGET}
        agent = Agent(
            STRONG,
            script=[said()],
            targets={"strong": Scripted(script=[], fails=True)},
            escalation=target,
            checkpointer=InMemorySaver(),
        )
        assert agent.invoke(ASKED, THREAD)["__interrupt__"]

    def test_a_draft_that_nobody_decided_on_is_forgotten_with_the_next_question(self):
        same = UncertaintyGuard(policy_of(HUMAN, escalation=HUMAN_TARGET))
        agent, _, _ = waiting(said(), guarded_message("Paris it is", by=same))
        messages = agent.invoke({"messages": [("user", "And now?")]}, THREAD)["messages"]
        assert messages[-1].text.strip() == "Paris it is"
        assert not knows(messages)
        assert agent.graph.get_state(THREAD).values.get("uncertainty_waiting") is None

    def test_without_a_checkpointer_the_draft_stays_withheld(self):
        agent = Agent(HUMAN, script=[calling()], escalation=HUMAN_TARGET)
        state = agent.invoke()
        assert state["__interrupt__"]
        assert not knows(state["messages"])
        assert agent.places == []

    def test_nobody_can_hand_in_a_draft_of_their_own(self):
        agent = Agent(ABSTAIN, script=[said()], checkpointer=InMemorySaver())
        state = agent.invoke({**ASKED, "uncertainty_waiting": {"messages": []}}, THREAD)
        assert state["messages"][-1].text == "I do not know."

    @HOWS
    def test_a_queue_takes_it_where_that_is_asked_for(self, how, tmp_path):
        target = {"human": {"queue": f"sqlite:///{tmp_path / 'queue.db'}"}}
        agent = Agent(HUMAN, script=[calling()], escalation=target, people="queue")
        state = agent.invoke(how=how)
        assert "__interrupt__" not in state
        assert not knows(state)
        assert verdict_of(state["messages"][-1])["escalation"]["ticket"]


class TestCheckpoints:
    @HOWS
    @pytest.mark.parametrize("rule", [ABSTAIN, STRONG])
    def test_a_withheld_draft_is_in_none(self, how, rule):
        saver = InMemorySaver()
        strong = {"strong": Scripted(script=[said("Paris")])}
        agent = Agent(rule, script=[calling()], checkpointer=saver, targets=strong, escalation=STRONG_TARGET)
        agent.invoke(ASKED, THREAD, how=how)
        kept = repr([dict(saver.storage), dict(saver.blobs), dict(saver.writes)])
        assert "Where is it?" in kept
        assert not knows(kept)

    def test_after_a_person_rejected_it_the_state_has_it_no_more(self):
        agent, _, _ = waiting(calling())
        resumed(agent, {"type": "reject"})
        assert not knows(agent.graph.get_state(THREAD))


class TestWhenUncertain:
    @pytest.mark.parametrize(
        ("verdict", "asks"),
        [
            ({"confidence": 0.9}, False),
            ({"confidence": 0.8}, False),
            ({"confidence": 0.79}, True),
            ({"confidence": None}, True),
            ({"confidence": float("nan")}, True),
            ({"confidence": "0.9"}, True),
            ({"confidence": True}, True),
            ({"confidence": 1.5}, True),
            ({"confidence": 0.9, "error": "ScoringError: no"}, True),
            ({"confidence": 0.9, "escalation": {"source": "gpt-5"}}, True),
            ({"confidence": 0.1, "review": "approve"}, False),
            ({"confidence": 0.9, "review": "reject"}, False),
            ({"confidence": 0.9, "tool_calls": [{"name": "look_up", "confidence": 0.5}]}, True),
            ({"confidence": 0.5, "tool_calls": [{"name": "look_up", "confidence": 0.9}]}, True),
            ({"confidence": 0.9, "tool_calls": [{"name": "look_up", "confidence": None}]}, True),
            ({"confidence": 0.9, "tool_calls": [{"name": "send", "confidence": 0.9}]}, True),
            ({"confidence": 0.9, "tool_calls": []}, True),
        ],
    )
    def test_a_person_is_asked_below_the_threshold_and_where_nothing_is_known(self, verdict, asks):
        call = {"name": "look_up", "confidence": 0.95}
        message = judged(calling(), **{"tool_calls": [call], **verdict})
        assert when_uncertain(0.8)(_Request([message])) is asks

    @pytest.mark.parametrize("messages", [[], [calling()], [judged(said(), confidence=0.9)]])
    def test_a_call_without_a_verdict_is_uncertain(self, messages):
        assert when_uncertain(0.8)(_Request(messages)) is True

    @pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
    def test_a_threshold_is_a_probability(self, threshold):
        with pytest.raises(OptionError, match="between 0 and 1"):
            when_uncertain(threshold)

    @HOWS
    @pytest.mark.parametrize(("threshold", "asks"), [(0.4, False), (0.6, True)])
    def test_langchains_own_middleware_asks_by_the_confidence(self, how, threshold, asks, tmp_path):
        review = HumanInTheLoopMiddleware(
            {"look_up": {"allowed_decisions": ["approve", "reject"], "when": when_uncertain(threshold)}}
        )
        agent = Agent(
            script=[calling(), said("far away")],
            middleware=[review],
            checkpointer=InMemorySaver(),
            answered_by="tiny",
            # Of a sum over whole answers no confidence of a call would come, and it would always ask.
            profile=profile_file(tmp_path, options=ScoringOptions(reduction="mean")),
        )
        state = agent.invoke(ASKED, THREAD, how=how)
        assert ("__interrupt__" in state) is asks
        assert agent.places == ([] if asks else [SECRET])
        if asks:
            resumed(agent, {"type": "approve"}, how=how)
        assert agent.places == [SECRET]
        assert len(agent.model.asked) == 2

    def test_a_call_that_a_person_approved_is_not_shown_again(self):
        review = HumanInTheLoopMiddleware(
            {"look_up": {"allowed_decisions": ["approve", "reject"], "when": when_uncertain(0.9)}}
        )
        same = UncertaintyGuard(policy_of(HUMAN, escalation=HUMAN_TARGET))
        agent, _, _ = waiting(calling(), guarded_message("Paris it is", by=same), middleware=[review])
        assert "__interrupt__" not in resumed(agent, {"type": "approve"})
        assert agent.places == [SECRET]


class JumpsToTools(AgentMiddleware):
    """What some of LangChain's own middleware does: sends the agent to its tools."""

    @hook_config(can_jump_to=["tools"])
    def after_model(self, state, runtime):
        return {"jump_to": "tools"} if state["messages"][-1].type != "ai" else None

    @hook_config(can_jump_to=["tools"])
    def before_model(self, state, runtime):
        # Once: what was rejected has a result that says so, and what was run has one without an error.
        is_rejected = getattr(state["messages"][-1], "status", None) == "error"
        return {"jump_to": "tools"} if is_rejected else None


class TestBesideMiddlewareThatJumpsToTools:
    """LangChain runs a call that a person rejected (langchain#40492)."""

    def reviewing(self):
        return HumanInTheLoopMiddleware(
            {"look_up": {"allowed_decisions": ["approve", "reject"], "when": when_uncertain(0.9)}}
        )

    def test_our_own_review_leaves_no_call_that_could_be_run(self):
        agent, _, _ = waiting(calling(), said(), middleware=[JumpsToTools()])
        state = resumed(agent, {"type": "reject", "message": "No."})
        assert agent.places == []
        assert state["messages"][-1].text == "No."
        assert not any(getattr(one, "tool_calls", ()) for one in state["messages"])

    def test_langchains_runs_it(self):
        """If this fails, LangChain has mended it: take the warning of ``when_uncertain`` and the docs out."""
        agent = Agent(
            script=[calling(), said("done")],
            middleware=[JumpsToTools(), self.reviewing()],
            checkpointer=InMemorySaver(),
        )
        assert "__interrupt__" in agent.invoke(ASKED, THREAD)
        assert agent.places == []
        resumed(agent, {"type": "reject"})
        assert agent.places == [SECRET]


class _Request:
    def __init__(self, messages):
        self.state = {"messages": messages}
        self.tool_call = calling().tool_calls[0]
