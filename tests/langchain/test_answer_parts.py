"""Whatever an answer holds beside its text and its thoughts counts as a call of a tool, at every door."""

import pytest
from langchain_core.messages import AIMessage
from pydantic import BaseModel

from guardrail.langchain.answer_parts import parts_of
from guardrail.langchain.verdicts import verdict_of
from tests.support.agents import Agent
from tests.support.doors import answers
from tests.support.guards import PASS
from tests.support.wrapping import ABSTAIN, guard, other_model

pytestmark = pytest.mark.usefixtures("one_thread")

ANY_CALL = {**ABSTAIN, "when": {"tool_call": True}}
SEND = {**ABSTAIN, "when": {"tool_call": ["send_*"]}}
READ = {"id": "reads", "when": {"tool_call": ["read_*"]}, "action": "pass"}

NAMED = {"name": "send_mail", "arguments": "{}"}
RAW = {"id": "c1", "type": "function", "function": NAMED}


def beside(**fields):
    return AIMessage("Done.", additional_kwargs=fields)


def block(**fields):
    return AIMessage(["Done.", fields])


# More than text, and the name of what it calls, if it has one.
MORE = {
    "function_call": (beside(function_call=NAMED), "send_mail"),
    "raw tool_calls": (beside(tool_calls=[RAW]), "send_mail"),
    "raw custom call": (beside(tool_calls=[{"type": "custom", "custom": {"input": "x"}}]), ""),
    "no list of calls": (beside(tool_calls="send_mail"), ""),
    "audio beside": (beside(audio={"data": "UklGRg=="}), ""),
    "outputs of tools": (beside(tool_outputs=[{"type": "web_search_call", "status": "completed"}]), ""),
    "another reading": (beside(parsed={"answer": "no"}), ""),
    "an account with more": (beside(usage={"tokens": 3, "send_mail": "ann"}), ""),
    "an unknown fact": (beside(something={"a": 1}), ""),
    "server_tool_call": (block(type="server_tool_call", name="send_mail", args={}, id="1"), "send_mail"),
    "server_tool_result": (block(type="server_tool_result", tool_call_id="1", output="x"), ""),
    "server_tool_use": (block(type="server_tool_use", name="send_mail", input={}, id="1"), "send_mail"),
    "mcp_call": (block(type="mcp_call", name="send_mail", arguments="{}", server_label="s"), "send_mail"),
    "mcp_approval_request": (
        block(type="mcp_approval_request", name="send_mail", arguments="{}"),
        "send_mail",
    ),
    "function_call block": (block(type="function_call", name="send_mail", arguments="{}"), "send_mail"),
    "tool_use of no known id": (block(type="tool_use", name="send_mail", input={}, id="9"), "send_mail"),
    "tool_call of no known id": (block(type="tool_call", name="send_mail", args={}, id="9"), "send_mail"),
    "non_standard": (block(type="non_standard", value={"type": "computer_call"}), ""),
    "non_standard with a name": (block(type="non_standard", value={"name": "send_mail"}), "send_mail"),
    "image": (block(type="image", url="https://x/y.png"), ""),
    "audio": (block(type="audio", base64="UklGRg=="), ""),
    "video": (block(type="video", url="https://x"), ""),
    "file": (block(type="file", file_id="f"), ""),
    "document": (block(type="text-plain", text="words"), ""),
    "code": (block(type="code_interpreter_call", code="import os"), ""),
    "no type": (block(text="words"), ""),
    "a type that is none": (block(type=["text"], text="words"), ""),
    "text with more": (block(type="text", text="more", payload={"a": 1}), ""),
    "text that is none": (block(type="text", text={"a": 1}), ""),
    "nested": (block(type="tool_result", content=[[{"type": "text", "text": "words"}]]), ""),
    "artifact": (AIMessage("Done.", artifact={"rows": 3}), ""),
    "any field": (AIMessage("Done.", files=["a"]), ""),
    "invalid call": (
        AIMessage("Done.", invalid_tool_calls=[{"name": None, "args": "{", "id": "1", "error": None}]),
        "",
    ),
}
CALL = {"name": "send_mail", "args": {}, "id": "c1"}
# Text, thoughts, and calls that are written twice.
NO_MORE = {
    "text": AIMessage("Done."),
    "blocks": AIMessage([{"type": "text", "text": "Done.", "annotations": [{"type": "citation"}]}]),
    "reasoning": AIMessage([{"type": "reasoning", "reasoning": "hm"}, "Done."]),
    "thinking": AIMessage([{"type": "thinking", "thinking": "hm", "signature": "s"}, "Done."]),
    "redacted": AIMessage([{"type": "redacted_thinking", "data": "x"}, "Done."]),
    "reasoning beside": beside(reasoning_content="hm"),
    "refusal of none": beside(refusal=None),
    "refusal": AIMessage([{"type": "refusal", "refusal": "No."}]),
    "nothing called": beside(tool_calls=[], function_call=None),
    "an account": beside(
        usage={"prompt_tokens": 3, "cost": None}, stop_reason="end_turn", model_id="anthropic.claude"
    ),
    "the same data": AIMessage('{"a": 1}', additional_kwargs={"parsed": {"a": 1}}),
}
ONE_CALL = {
    "raw as well": AIMessage("", tool_calls=[CALL], additional_kwargs={"tool_calls": [RAW]}),
    "block as well": AIMessage(
        [{"type": "tool_use", "name": "send_mail", "input": {}, "id": "c1"}], tool_calls=[CALL]
    ),
    "legacy form as well": AIMessage("", tool_calls=[CALL], additional_kwargs={"function_call": NAMED}),
    "content block": AIMessage(
        [{"type": "tool_call", "name": "send_mail", "args": {}, "id": "c1"}], tool_calls=[CALL]
    ),
}


def acted(rules, message, door):
    if door == "wrapper":
        shown = guard(*rules).wrap(other_model(message)).invoke("Mail Ann")
    elif door == "stream":
        (shown,) = guard(*rules).wrap(other_model(message) | (lambda one: one)).stream("Mail Ann")
    else:
        shown = Agent(*rules, script=other_model(message), tools=[]).last()
    return verdict_of(shown)["action"]


@pytest.mark.parametrize("kind", MORE)
def test_what_is_more_than_text_counts_as_a_call(kind):
    message, name = MORE[kind]
    (call,) = parts_of(message).calls
    assert call.name == name
    assert acted((ANY_CALL, PASS), message, "wrapper") == "abstain"


@pytest.mark.parametrize(
    "kind", ["function_call", "mcp_call", "non_standard", "image", "artifact", "invalid call"]
)
def test_so_it_does_in_an_agent(kind):
    assert acted((ANY_CALL, PASS), MORE[kind][0], "agent") == "abstain"


@pytest.mark.parametrize("kind", MORE)
def test_a_call_whose_tool_is_unknown_may_be_one_that_a_rule_stops(kind):
    message, name = MORE[kind]
    action = acted((SEND, PASS), message, "wrapper")
    assert action == "abstain"
    assert acted((READ, ABSTAIN), message, "wrapper") == "abstain", name


@pytest.mark.parametrize("kind", NO_MORE)
@pytest.mark.parametrize("door", ["wrapper", "agent"])
def test_text_and_thoughts_are_no_calls(kind, door):
    assert parts_of(NO_MORE[kind]).calls == ()
    assert acted((ANY_CALL, PASS), NO_MORE[kind], door) == "pass"


@pytest.mark.parametrize("kind", ONE_CALL)
def test_a_call_that_is_written_twice_is_one(kind):
    (call,) = parts_of(ONE_CALL[kind]).calls
    assert (call.name, call.identity) == ("send_mail", "c1")


def test_a_call_of_another_name_under_a_known_id_is_another():
    other = {"type": "tool_use", "name": "delete_all", "input": {}, "id": "c1"}
    calls = parts_of(AIMessage([other], tool_calls=[CALL])).calls
    assert [call.name for call in calls] == ["send_mail", "delete_all"]


def test_data_that_differ_from_the_text_are_more():
    class Answer(BaseModel):
        a: int

    same = AIMessage('{"a": 1}', additional_kwargs={"parsed": Answer(a=1)})
    other = AIMessage('{"a": 1}', additional_kwargs={"parsed": Answer(a=2)})
    assert (len(parts_of(same).calls), len(parts_of(other).calls)) == (0, 1)


@pytest.mark.parametrize("kind", [kind for kind in answers() if kind not in ("text", "blocks")])
def test_an_answer_that_is_more_does_not_pass_as_its_text_alone(kind):
    message = answers()[kind]
    assert (
        parts_of(message).words != parts_of(AIMessage(str(message.text))).words or not parts_of(message).calls
    )


@pytest.mark.parametrize(
    "message", [block(type="image", url="x"), AIMessage([{"type": "audio", "base64": "x"}])]
)
def test_what_no_text_model_can_read_is_not_let_through_without_a_text(message):
    alone = AIMessage([one for one in message.content if not isinstance(one, str)])
    shown = guard(PASS).wrap(other_model(alone)).invoke("Draw Ann")
    assert verdict_of(shown)["rule"] == "on_error"


def test_a_call_that_a_provider_writes_elsewhere_is_read_by_the_scorer():
    elsewhere = AIMessage("", additional_kwargs={"function_call": NAMED})
    assert acted((PASS,), elsewhere, "wrapper") == "pass"
    assert (
        verdict_of(guard(PASS).wrap(other_model(elsewhere)).invoke("Mail Ann"))["tool_calls"][0]["name"]
        == "send_mail"
    )


@pytest.mark.parametrize(
    "other", [{"name": "read_mail"}, {"arguments": '{"to": "Ann"}'}, {"arguments": None}]
)
def test_a_legacy_call_that_differs_from_a_known_one_is_another(other):
    message = AIMessage("", tool_calls=[CALL], additional_kwargs={"function_call": {**NAMED, **other}})
    assert len(parts_of(message).calls) == 2
