"""LangChain's messages as chat templates read them."""

import pytest
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)

from guardrail.errors import PromptError
from guardrail.langchain.message_conversion import prompt_of
from guardrail.models.prompt import encode_prompt
from tests.support.templates import HERMES
from tests.support.tiny import tiny_tokenizer

CALL = {"name": "add", "args": {"a": 1}, "id": "7", "type": "tool_call"}
PLAIN_CALL = {"id": "7", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}


@pytest.mark.parametrize(
    ("message", "plain"),
    [
        (SystemMessage("Be brief."), {"role": "system", "content": "Be brief."}),
        (HumanMessage("Hm?", name="ann"), {"role": "user", "content": "Hm?", "name": "ann"}),
        (AIMessage("So."), {"role": "assistant", "content": "So."}),
        (AIMessageChunk("So."), {"role": "assistant", "content": "So."}),
        (ChatMessage("So.", role="critic"), {"role": "critic", "content": "So."}),
        (FunctionMessage("3", name="add"), {"role": "tool", "content": "3", "name": "add"}),
        (ToolMessage("3", tool_call_id="7"), {"role": "tool", "content": "3", "tool_call_id": "7"}),
        (
            ToolMessage([{"type": "text", "text": "3"}], tool_call_id="7", status="error"),
            {"role": "tool", "content": "3", "tool_call_id": "7"},
        ),
        (HumanMessage([{"type": "text", "text": "a"}, "b"]), {"role": "user", "content": "ab"}),
        (
            AIMessage("", tool_calls=[CALL]),
            {"role": "assistant", "content": "", "tool_calls": [PLAIN_CALL]},
        ),
        (
            AIMessage(
                [
                    {"type": "reasoning", "reasoning": "Hm."},
                    {"type": "text", "text": "Let me see."},
                    {"type": "tool_use", "id": "7", "name": "add", "input": {"a": 1}},
                ],
                tool_calls=[CALL],
            ),
            {"role": "assistant", "content": "Let me see.", "tool_calls": [PLAIN_CALL]},
        ),
        (AIMessage([{"type": "refusal", "refusal": "No."}]), {"role": "assistant", "content": "No."}),
    ],
)
def test_every_kind_of_message_has_its_form(message, plain):
    assert prompt_of([message]) == [plain]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (HumanMessage([{"type": "image_url", "image_url": {"url": "x"}}]), "Message 2 holds 'image_url'"),
        (HumanMessage([{"type": "tool_use", "id": "7"}]), "holds 'tool_use'"),
        (ToolMessage([{"type": "image", "url": "x"}], tool_call_id="7"), "holds 'image'"),
        (HumanMessage([{"text": "untyped"}]), "without a type"),
        (RemoveMessage(id="x"), "RemoveMessage"),
    ],
)
def test_what_a_text_model_cannot_read_is_refused_by_its_place(message, said):
    with pytest.raises(PromptError, match=said):
        prompt_of([HumanMessage("Hm?"), message])


def test_a_template_reads_calls_and_their_results():
    messages = [HumanMessage("1 + 2?"), AIMessage("", tool_calls=[CALL]), ToolMessage("3", tool_call_id="7")]
    tokenizer = tiny_tokenizer(HERMES)
    rendered = tokenizer.decode(encode_prompt(tokenizer, prompt_of(messages)).ids)
    assert '{"name": "add", "arguments": {"a": 1}}' in rendered
    assert "<tool_response>\n3\n</tool_response>" in rendered
