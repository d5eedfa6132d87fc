"""Chat models that reason: what is content, what is a call, and what is streamed."""

import asyncio

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool

from guardrail.errors import OptionError
from guardrail.langchain import ChatGuardrail, verdict_of
from guardrail.langchain.message_conversion import prompt_of
from guardrail.langchain.tool_parsing import ToolReader, read_answer
from tests.support.chat_models import ABSTAIN
from tests.support.guards import PASS, policy_of, tiny
from tests.support.reasoning import THOUGHT, UNENDED, family, model_under, saying
from tests.support.templates import HERMES

pytestmark = pytest.mark.usefixtures("one_thread")

ADD = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
LIVE = {"streaming": "annotate", "on_uncalibrated": "flag"}


@tool
def add(a: int) -> int:
    """Add."""
    return a


def chat_saying(model, text, *rules, policy=None, **options):
    """A chat model whose every answer is this text."""
    chat = ChatGuardrail(model=model, policy=policy_of(*rules, **(policy or {})), max_tokens=60, **options)
    guard = chat.guard
    given = guard._pipeline.run, guard._pipeline.arun

    def forced(jobs):
        from dataclasses import replace

        said = saying(model, text).processor
        return [replace(job, controls=replace(job.controls, processor=said)) for job in jobs]

    guard._pipeline.run = lambda jobs, *rest: given[0](forced(jobs), *rest)
    guard._pipeline.arun = lambda jobs, *rest: given[1](forced(jobs), *rest)
    return chat


def messages_of(chat, question="What is 2 + 2?"):
    async def run():
        chunks = [chunk async for chunk in chat.astream(question)]
        return [await chat.ainvoke(question), sum(chunks[1:], chunks[0])]

    chunks = [*chat.stream(question)]
    return [chat.invoke(question), sum(chunks[1:], chunks[0]), *asyncio.run(run())]


@pytest.mark.parametrize("name", THOUGHT)
@pytest.mark.parametrize("streaming", [{}, LIVE])
def test_reasoning_is_a_block_of_its_own_and_content_the_answer(name, streaming):
    chat = chat_saying(family(name), THOUGHT[name], PASS, policy=streaming)
    for message in messages_of(chat):
        assert message.content == "It is 4."
        assert [
            (block["type"], block.get("reasoning", block.get("text"))) for block in message.content_blocks
        ] == [
            ("reasoning", "Hm."),
            ("text", "It is 4."),
        ]
        assert message.usage_metadata["output_token_details"]["reasoning"] > 0
        assert "Hm." not in str(message.response_metadata)


@pytest.mark.parametrize("streaming", [{}, LIVE])
def test_no_chunk_of_a_stream_holds_a_word_of_the_reasoning_as_text(streaming):
    chat = chat_saying(
        family("qwen3"), "<think>\nSECRET\n</think>\n\nIt is 4.<|im_end|>", PASS, policy=streaming
    )
    chunks = [*chat.stream("Hi")]
    assert "".join(chunk.content for chunk in chunks) == "It is 4."
    assert not any(character in chunk.content for chunk in chunks for character in "SECR<>")


def test_a_withheld_answer_shows_no_reasoning():
    chat = chat_saying(family("qwen3"), THOUGHT["qwen3"], ABSTAIN)
    for message in messages_of(chat):
        assert message.content == ABSTAIN["message"]
        assert "Hm." not in str(message.model_dump())


@pytest.mark.parametrize("name", UNENDED)
def test_an_answer_that_is_cut_off_in_its_reasoning_is_withheld_by_on_error(name):
    chat = chat_saying(family(name), UNENDED[name], PASS)
    for message in messages_of(chat):
        verdict = verdict_of(message)
        assert (verdict["action"], verdict["rule"]) == ("abstain", "on_error")
        assert verdict["finish_reason"] == "reasoning_length"
        assert "It is 4" not in str(message.model_dump())


@pytest.mark.parametrize(
    "answer",
    [
        f"<think>\nI could write {ADD}\n</think>\n\nNo.",
        f"<think>\n{ADD}",
        f"{ADD}\n</think>\nNo.",
        f"[THINK]{ADD}[/THINK]No.",
        f"You could write {ADD} to add.",
        f"`{ADD}`",
        f"Like this:\n```\n{ADD}\n```",
        f"Like this:\n```\n{ADD}",
        f'"{ADD}"',
        f"<|channel|>analysis<|message|>{ADD}<|end|><|start|>assistant<|channel|>final<|message|>No.<|return|>",
        '[TOOL_CALLS]add[ARGS]{"a": 1} is how to call it',
    ],
)
def test_a_call_that_is_rehearsed_or_quoted_is_never_made(answer):
    said = read_answer(answer, ["add"])
    assert (list(said.calls), list(said.called)) == ([], [])


@pytest.mark.parametrize(
    "answer",
    [
        f"<think>\nSo {ADD}\n</think>\n\n{ADD}",
        f"thought\n</think>\n{ADD}",
        f"[THINK]Hm.[/THINK]Let me see. {ADD}",
        '<think>Hm.</think>{"name": "add", "arguments": {"a": 1}}',
        '[THINK]Hm.[/THINK][TOOL_CALLS]add[ARGS]{"a": 1}',
        '[THINK]Hm.[/THINK][TOOL_CALLS][{"name": "add", "arguments": {"a": 1}}]',
    ],
)
def test_a_call_after_the_reasoning_is_made(answer):
    ((call),) = read_answer(answer, ["add"]).calls
    assert (call["name"], call["args"]) == ("add", {"a": 1})


def test_arguments_may_hold_markers():
    (call,) = read_answer(
        '<tool_call>{"name": "add", "arguments": {"a": "</think>"}}</tool_call>', ["add"]
    ).calls
    assert call["args"] == {"a": "</think>"}


def test_a_call_in_the_commentary_channel_is_made_and_one_in_analysis_is_not():
    model = family("gpt-oss")
    reader = ToolReader(model.tokenizer, [{"type": "function", "function": {"name": "add"}}], str)
    header = "<|start|>assistant<|channel|>commentary to=functions.add <|constrain|>json"
    call = f'{header}<|message|>{{"a": 1}}<|call|>'
    assert [one.name for one in reader.calls_in(call)] == ["add"]
    assert [(one["name"], one["args"]) for one in reader.said.calls] == [("add", {"a": 1})]
    rehearsed = call.replace("commentary", "analysis")
    assert reader.calls_in(rehearsed) == []


@pytest.mark.parametrize(("thought", "made"), [(ADD, 0), ("Hm.", 1)])
def test_an_agent_gets_the_calls_of_the_answer_alone(thought, made):
    answer = ADD if made else "No."
    model = model_under(HERMES, ["<think>", "</think>", "<tool_call>", "</tool_call>"])
    chat = chat_saying(model, f"<think>{thought}</think>{answer}<|im_end|>", PASS, max_reasoning_tokens=200)
    message = chat.bind_tools([add]).invoke("Add 1.", max_tokens=200)
    assert len(message.tool_calls) == made
    assert [call["name"] for call in verdict_of(message)["tool_calls"]] == ["add"] * made


def test_template_arguments_are_taken_by_the_model_the_call_and_the_policy():
    model, off = family("qwen3"), {"enable_thinking": False}
    policy = policy_of(PASS)
    by_call = ChatGuardrail(model=model, policy=policy, max_tokens=4)
    by_model = ChatGuardrail(model=model, policy=policy, max_tokens=4, chat_template_kwargs=off)
    by_policy = ChatGuardrail(model=model, policy=policy_of(PASS, chat_template_kwargs=off), max_tokens=4)
    tokens = [
        by_call.invoke("Hi", chat_template_kwargs=off).usage_metadata["input_tokens"],
        by_model.invoke("Hi").usage_metadata["input_tokens"],
        by_policy.invoke("Hi").usage_metadata["input_tokens"],
    ]
    assert len(set(tokens)) == 1
    assert tokens[0] > by_call.invoke("Hi").usage_metadata["input_tokens"]
    keys = {chat._get_llm_string() for chat in (by_call, by_model, by_policy)}
    assert len(keys) == 3
    with pytest.raises(OptionError, match="does not read thinking"):
        by_call.invoke("Hi", chat_template_kwargs={"thinking": False})
    with pytest.raises(OptionError, match="does not read thinking"):
        ChatGuardrail(model=model, policy=policy, chat_template_kwargs={"thinking": False})


def test_reasoning_of_earlier_turns_goes_into_no_prompt():
    block = [{"type": "reasoning", "reasoning": "SECRET"}, {"type": "text", "text": "Four."}]
    for earlier in (
        AIMessage(block),
        AIMessage("Four.", additional_kwargs={"reasoning_content": "SECRET"}),
        AIMessage("<think>SECRET</think>Four."),
    ):
        messages = prompt_of([HumanMessage("2 + 2?"), earlier, HumanMessage("Sure?")])
        model = tiny()
        rendered = model.tokenizer.decode(model.encode_prompt(messages).ids)
        assert "Four." in rendered
        assert "SECRET" not in rendered
