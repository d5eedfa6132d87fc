"""Tools that a chat model offers, and calls in what the model wrote."""

import asyncio
import json
from copy import copy
from types import SimpleNamespace
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from guardrail.errors import OptionError
from guardrail.langchain import verdict_of
from guardrail.langchain.tool_parsing import ToolReader, offer, read_answer
from guardrail.models.local import LocalModel
from tests.support.chat import tiny_chat
from tests.support.chat_models import ABSTAIN, chat_of
from tests.support.guards import ASKED, PASS
from tests.support.templates import HERMES, LLAMA31
from tests.support.tiny import tiny_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")

ADD = '{"name": "add", "arguments": {"a": 1}}'
RISKY = {"id": "risky", "when": {"tool_call": ["send_*"]}, "action": "abstain", "message": "Not without you."}


@tool
def add(a: Literal[1, 2]) -> int:
    """Add."""
    return a


@tool
def send_mail(to: Literal["ann", "bob"]) -> str:
    """Send."""
    return to


def calls_of(said):
    return [(call["name"], call["args"]) for call in said.calls]


@pytest.mark.parametrize(
    ("answer", "text", "calls"),
    [
        (f"<tool_call>\n{ADD}\n</tool_call>", "", [("add", {"a": 1})]),
        (f"Let me see. <tool_call>{ADD}</tool_call>\n", "Let me see.", [("add", {"a": 1})]),
        (f"<tool_call>{ADD}</tool_call>" * 2, "", [("add", {"a": 1})] * 2),
        ('<tool_call>{"name": "now"}</tool_call>', "", [("now", {})]),
        ('<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}</tool_call>', "", [("add", {"a": 1})]),
        ('{"name": "add", "parameters": {"a": 1}}', "", [("add", {"a": 1})]),
        (
            '<|python_tag|>{"name": "add", "parameters": {"a": 1}}; {"name": "add"}',
            "",
            [("add", {"a": 1}), ("add", {})],
        ),
        (f"[TOOL_CALLS][{ADD}]", "", [("add", {"a": 1})]),
        (f" [{ADD}, {ADD}] ", "", [("add", {"a": 1})] * 2),
    ],
)
def test_calls_are_read_in_every_known_form(answer, text, calls):
    said = read_answer(answer, ["add"])
    assert (said.text, calls_of(said), said.invalid) == (text, calls, ())
    assert len({call["id"] for call in said.calls}) == len(calls)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "3",
        "I would add 1.",
        '{"a": 1}',
        '{"name": "Goethe"}',
        "[1, 2]",
        "{",
        f"{ADD} is what I would call",
    ],
)
def test_what_calls_nothing_is_an_answer(answer):
    said = read_answer(answer, ["add"])
    assert (said.text, said.calls, said.invalid) == (None, (), ())


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ('{"name": "add", "arguments": {"a": ', "add"),
        ('{"name": "add", "arguments": [1]}', "add"),
        ('{"name": "add", "arguments": "one"}', "add"),
        ('{"arguments": {}}', None),
        ('{"name": 3}', None),
        ("[]", None),
        ("", None),
    ],
)
def test_a_call_that_cannot_be_read_is_an_invalid_one_and_touches_no_other(written, name):
    said = read_answer(f"<tool_call>{ADD}</tool_call><tool_call>{written}</tool_call>", ["add"])
    assert calls_of(said) == [("add", {"a": 1})]
    ((call),) = said.invalid
    assert (call["name"], json.loads(json.dumps(call["args"]))) == (name, call["args"])
    assert call["error"]


def test_a_call_that_was_cut_off_is_invalid():
    said = read_answer('Hm. <tool_call>{"name": "add", "argu', ["add"])
    assert (said.text, said.calls, len(said.invalid)) == ("Hm.", (), 1)


@given(st.text(alphabet='<>/{}[]":,;atdnme_cl1 \n', max_size=60) | st.text())
def test_nothing_that_a_model_writes_breaks_the_reader(answer):
    for text in (answer, f"<tool_call>{answer}", f"[{answer}", "[" * 5000 + answer):
        said = read_answer(text, ["add"])
        assert all(isinstance(call["args"], dict) for call in said.calls)


def test_tokens_that_end_a_turn_are_no_part_of_a_call():
    reader = ToolReader(tiny_tokenizer(HERMES), [_schema()], str)
    assert reader.calls_in(f"{ADD}<|im_end|>") == [("add", f"{ADD}<|im_end|>")]
    assert calls_of(reader.said) == [("add", {"a": 1})]
    ((name, _),) = reader.calls_in('<tool_call>{"name": "add", "arguments": 1}</tool_call><|im_end|>')
    assert name == "add"


def test_a_tokenizers_own_way_of_reading_is_used_where_it_has_one():
    def parse(response, *, prefix, tools):
        assert (response, prefix, tools) == ("draft", "prompt", [_schema()])
        return {"content": "Hm.", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]}

    tokenizer = SimpleNamespace(response_template={"any": "template"}, parse_response=parse)
    reader = ToolReader(tokenizer, [_schema()], lambda: "prompt")
    assert reader.calls_in("draft") == [("add", None)]
    assert (reader.said.text, calls_of(reader.said)) == ("Hm.", [("add", {"a": 1})])


def _schema():
    return {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


def calling(*rules, template=HERMES, **options):
    model, tokenizer = tiny_chat()
    tokenizer = copy(tokenizer)
    tokenizer.chat_template = template
    return chat_of(*rules, model=LocalModel(model, tokenizer, "caller"), max_tokens=90, **options)


def messages_of(chat, question="Add 1."):
    async def run():
        chunks = [chunk async for chunk in chat.astream(question)]
        return [await chat.ainvoke(question), sum(chunks[1:], chunks[0])]

    chunks = [*chat.stream(question)]
    return [chat.invoke(question), sum(chunks[1:], chunks[0]), *asyncio.run(run())]


def test_a_model_whose_template_shows_no_tools_offers_none():
    with pytest.raises(NotImplementedError, match="shows no tools"):
        chat_of(PASS).bind_tools([add])


def test_a_choice_that_is_none_is_refused():
    with pytest.raises(OptionError, match="can be auto, none, any, add"):
        calling(PASS).bind_tools([add], tool_choice="subtract")


def test_an_answer_without_calls_is_an_answer():
    plain = calling(PASS)
    assert plain.bind_tools([add], tool_choice="none").invoke(ASKED).content == plain.invoke(ASKED).content
    for message in messages_of(plain.bind_tools([add])):
        assert message.content
        assert message.tool_calls == message.invalid_tool_calls == []


@pytest.fixture
def llguidance():
    return pytest.importorskip("llguidance", reason="llguidance is not installed")


@pytest.mark.parametrize("template", [HERMES, LLAMA31])
def test_a_call_that_must_be_made_is_made_with_arguments_of_the_tools_form(llguidance, template):
    chat = calling(PASS, template=template)
    for message in messages_of(chat.bind_tools([add, send_mail], tool_choice="add")):
        (call,) = message.tool_calls
        assert (call["name"], type(call["args"]["a"])) == ("add", int)
        assert (message.content, message.invalid_tool_calls) == ("", [])
        assert call["id"]
    (call,) = chat.bind_tools([add], tool_choice="any").invoke(ASKED).tool_calls
    assert call["name"] == "add"


CHOSEN = [
    True,
    "any",
    "required",
    "add",
    {"type": "function", "function": {"name": "add"}},
    {"type": "function", "name": "add"},
    {"type": "tool", "name": "add"},
    {"type": "any"},
]


@pytest.mark.parametrize("choice", CHOSEN, ids=str)
def test_a_choice_may_have_any_form_and_be_bound_or_given_to_a_call(llguidance, choice):
    chat = calling(PASS)
    for message in (
        chat.bind_tools([add], tool_choice=choice).invoke(ASKED),
        chat.invoke(ASKED, tools=[add], tool_choice=choice, parallel_tool_calls=False, strict=True),
    ):
        assert [call["name"] for call in message.tool_calls] == ["add"]


@pytest.mark.parametrize("choice", [None, False, "auto", "none", {"type": "auto"}, {"type": "none"}], ids=str)
def test_a_choice_that_leaves_it_to_the_model_makes_no_call(choice):
    assert calling(PASS).bind_tools([add], tool_choice=choice).invoke(ASKED).tool_calls == []


@pytest.mark.parametrize(
    "choice", [{}, {"type": "function"}, {"type": "tool", "name": "no"}, 7, ["add"]], ids=str
)
def test_a_choice_of_no_known_form_is_refused_bound_or_given_to_a_call(choice):
    for use in (
        lambda: calling(PASS).bind_tools([add], tool_choice=choice),
        lambda: calling(PASS).invoke(ASKED, tools=[add], tool_choice=choice),
    ):
        with pytest.raises(OptionError, match="tool_choice is"):
            use()


@pytest.mark.parametrize("option", [{"parallel_tool_calls": False}, {"strict": True}], ids=str)
def test_what_only_a_call_that_must_be_made_can_keep_is_refused_for_others(option):
    with pytest.raises(OptionError, match="but only a call that must be made is held to a form"):
        calling(PASS).bind_tools([add], **option)


class Node(BaseModel):
    """A node."""

    kind: Literal["leaf", "title"]
    parts: list["Node"]


NODE_TOOL = {
    "type": "function",
    "function": {
        "name": "plant",
        "parameters": {
            "type": "object",
            "properties": {"tree": {"$ref": "#/$defs/Node"}},
            "required": ["tree"],
            "$defs": {"Node": Node.model_json_schema()["$defs"]["Node"]},
        },
    },
}


@tool
def plant(tree: Node) -> str:
    """Plant a tree."""
    return tree.kind


def plain_plant(tree: Node) -> str:
    """Plant a tree."""
    return tree.kind


@pytest.mark.parametrize(
    "planted", [plant, plain_plant, NODE_TOOL, Node], ids=["tool", "function", "dict", "model"]
)
def test_a_tool_that_refers_to_itself_is_offered_whole(planted):
    (offered,) = offer([planted], "auto")["tools"]
    parameters = offered["function"]["parameters"]
    definition = parameters["$defs"]["Node"]
    assert definition["properties"]["parts"]["items"] == {"$ref": "#/$defs/Node"}
    assert definition["properties"]["kind"]["enum"] == ["leaf", "title"]
    assert offer([offered], "auto")["tools"] == (offered,)


def test_an_openai_tool_with_definitions_can_be_demanded(llguidance):
    flat = Node.model_json_schema()["$defs"]["Node"]["properties"]["kind"]
    parameters = {"type": "object", "properties": {"kind": {"$ref": "#/$defs/K"}}, "required": ["kind"]}
    demanded = {"name": "plant", "parameters": {**parameters, "$defs": {"K": flat}}}
    tools = [{"type": "function", "function": demanded}]
    (call,) = calling(PASS).bind_tools(tools, tool_choice="any").invoke(ASKED).tool_calls
    assert call["args"]["kind"] in ("leaf", "title")


def test_rules_see_the_tools_that_are_called_and_a_withheld_call_is_withheld(llguidance):
    chat = calling(RISKY, PASS)
    for message in messages_of(chat.bind_tools([add, send_mail], tool_choice="send_mail")):
        assert verdict_of(message)["rule"] == "risky"
        assert (message.content, message.tool_calls) == ("Not without you.", [])
        assert message.invalid_tool_calls == []
        assert "send_mail" not in json.dumps(message.additional_kwargs)
    for message in messages_of(chat.bind_tools([add, send_mail], tool_choice="add")):
        assert verdict_of(message)["rule"] == "all"
        assert message.tool_calls[0]["name"] == "add"


def test_a_verdict_tells_of_each_call(llguidance):
    chat = calling(PASS)
    for message in messages_of(chat.bind_tools([add, send_mail], tool_choice="add")):
        verdict = verdict_of(message)
        ((call),) = verdict["tool_calls"]
        assert (call["name"], call["hybridgrad"]) == ("add", verdict["scores"]["hybridgrad"])
        assert (call["confidence"], call["reason"]) == (None, "no profile gives a confidence")
    assert verdict_of(chat.invoke(ASKED))["tool_calls"] == []


@pytest.mark.parametrize(
    ("answer", "written"),
    [
        (
            f"Hm. <tool_call>{ADD}</tool_call> <tool_call>no</tool_call>",
            [f"<tool_call>{ADD}</tool_call>", "<tool_call>no</tool_call>"],
        ),
        (f"{ADD}; {ADD}", [ADD, ADD]),
        (f"[{ADD}, {ADD}]", [None, None]),
    ],
)
def test_where_a_call_is_written_is_known(answer, written):
    assert [call.written for call in read_answer(answer, ["add"]).called] == written


def test_calls_are_never_streamed_before_they_are_decided_on(llguidance):
    live = {"streaming": "annotate", "on_uncalibrated": "flag", "on_outside_domain": "flag"}
    chat = calling(PASS, policy=live).bind_tools([add], tool_choice="add")
    assert len([*chat.stream(ASKED)]) == 1


def test_a_conversation_goes_on_with_what_a_tool_gave(llguidance):
    chat = calling(PASS).bind_tools([add], tool_choice="add")
    asked = chat.invoke("Add 1.")
    result = ToolMessage("2", tool_call_id=asked.tool_calls[0]["id"])
    assert isinstance(calling(ABSTAIN).invoke([HumanMessage("Add 1."), asked, result]), AIMessage)
