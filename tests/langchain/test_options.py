"""An option that is not understood is an error, and never one that is ignored."""

import asyncio

import pytest
from langchain_core.runnables import ConfigurableField

from guardrail.errors import OptionError, PolicyError
from guardrail.guard import Guard
from guardrail.langchain import ChatGuardrail, UncertaintyGuard, UncertaintyMiddleware, when_uncertain
from guardrail.models.loading import LoadOptions
from guardrail.models.local import LocalModel
from guardrail.models.sampling import Sampling
from guardrail.scoring.options import ScoringOptions
from tests.support.chat import tiny_chat
from tests.support.chat_models import chat_of
from tests.support.guards import ASKED, PASS, policy_of, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


def tokens(message):
    return message.usage_metadata["output_tokens"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ChatGuardrail(model_id="x", policy=policy_of()), "'model_id'; did you mean 'model'"),
        (lambda: chat_of(PASS, policy_path="builtin:strict"), "'policy_path'; did you mean 'policy"),
        (lambda: chat_of(PASS, model_kwargs={}), "no option 'model_kwargs'"),
        (lambda: chat_of(PASS, top_k=None), "no option 'top_k'"),
        (lambda: UncertaintyGuard("builtin:strict", on_abstian="raise"), "did you mean 'on_abstain'"),
        (lambda: UncertaintyMiddleware("builtin:strict", tag=["a"]), "did you mean 'tags'"),
        (lambda: when_uncertain(treshold=0.5), "did you mean 'threshold'"),
        (lambda: Guard(policy_of(), tiny(), batchsize=2), "did you mean 'batch_size'"),
        (lambda: Guard.from_policy("builtin:strict", tiny(), lod=None), "did you mean 'load'"),
        (lambda: LocalModel(*tiny_chat(), "tiny", fast=True), "LocalModel has no option 'fast'"),
        (lambda: Sampling(max_token=5), "did you mean 'max_tokens'"),
        (lambda: ScoringOptions(reductoin="mean"), "did you mean 'reduction'"),
        (lambda: LoadOptions(devise="cpu"), "did you mean 'device'"),
    ],
)
def test_an_unknown_argument_is_refused_with_the_name_that_was_meant(make, said):
    with pytest.raises(OptionError, match=said):
        make()


@pytest.mark.parametrize("value", [1, None])
@pytest.mark.parametrize("name", ["foo", "top_k", "model_kwargs", "functions", "logit_bias", "streaming"])
def test_an_unknown_option_of_a_call_is_refused_however_it_is_given(name, value):
    chat = chat_of(PASS)
    for use in (
        lambda: chat.invoke(ASKED, **{name: value}),
        lambda: chat.bind(**{name: value}).invoke(ASKED),
        lambda: list(chat.stream(ASKED, **{name: value})),
        lambda: chat.with_structured_output({"type": "object"}, **{name: value}),
    ):
        with pytest.raises(OptionError, match=f"no option '{name}'"):
            use()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n": 2}, "n is 2"),
        ({"n": True}, "n is True"),
        ({"stream_usage": False}, "stream_usage is False"),
        ({"strict": "yes"}, "strict is 'yes'"),
        ({"model": "other"}, "another ChatGuardrail"),
        ({"model_name": "other"}, "another ChatGuardrail"),
        ({"tool_choice": "any"}, "where there is no tool"),
        ({"response_format": {"type": "yaml"}}, "No answer can be held"),
        ({"response_format": {"type": "json_schema"}}, "has no schema"),
        ({"tools": [{"type": "web_search"}]}, "a provider's own"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(options, said):
    with pytest.raises(OptionError, match=said):
        chat_of(PASS).invoke(ASKED, **options)


@pytest.mark.parametrize("options", [{"n": 1}, {"stream_usage": True}, {"parallel_tool_calls": False}])
def test_what_is_done_anyway_may_be_asked_for(options):
    assert tokens(chat_of(PASS).invoke(ASKED, **options)) == 6


def test_langchains_own_names_are_understood_where_a_chat_model_is_made_and_in_a_call():
    chat = ChatGuardrail(
        model_name=tiny(),
        policy=policy_of(),
        max_completion_tokens=5,
        stop_sequences=["\0"],
        request_timeout=60,
        max_retries=2,
        api_key="a key",
    )
    assert "a key" not in f"{chat!r}{chat.__dict__}{chat._get_llm_string()}"
    assert (chat.max_tokens, chat.stop, chat.timeout, chat.guard.model) == (5, ["\0"], 60, tiny())
    assert tokens(chat.invoke(ASKED)) == 5
    assert tokens(chat.bind(max_completion_tokens=3).invoke(ASKED)) == 3
    whole = chat_of(PASS, max_tokens=12).invoke(ASKED).content
    cut = chat_of(PASS, max_tokens=12).invoke(ASKED, stop_sequences=[whole[4]])
    assert cut.content == whole[: whole.index(whole[4])]


@pytest.mark.parametrize(
    "twice",
    [
        {"max_tokens": 5, "max_completion_tokens": 6},
        {"stop": ["\0"], "stop_sequences": ["\1"]},
        {"timeout": 60.0, "request_timeout": 70.0},
    ],
)
def test_one_option_by_two_names_is_an_error_where_they_differ(twice):
    one, other = twice
    names = f"({one} is .* and {other} is|{other} is .* and {one} is).*give it once"
    with pytest.raises(OptionError, match=names):
        chat_of(PASS, **{"max_tokens": None, **twice})
    with pytest.raises(OptionError, match=names):
        chat_of(PASS).invoke(ASKED, **twice)
    same = dict.fromkeys(twice, next(iter(twice.values())))
    assert chat_of(PASS, **{"max_tokens": None, **same}).invoke(ASKED, **same).content


def test_a_copy_and_a_configurable_field_take_known_names_alone():
    chat = chat_of(PASS)
    with pytest.raises(OptionError, match="did you mean 'temperature'"):
        chat.model_copy(update={"temprature": 1})
    assert tokens(chat.model_copy(update={"max_completion_tokens": 2}).invoke(ASKED)) == 2
    with pytest.raises(ValueError, match="temprature"):
        chat.configurable_fields(temprature=ConfigurableField(id="t"))
    chosen = chat.configurable_fields(max_tokens=ConfigurableField(id="most"))
    assert tokens(chosen.with_config(configurable={"most": 2}).invoke(ASKED)) == 2


@pytest.mark.parametrize("given", [{"max_tokens": 2}, {"configurable": {"max_tokens": 2}}])
def test_an_option_that_is_put_into_a_config_is_not_lost(given):
    with pytest.raises(OptionError, match=r"max_tokens is no part of a config.*bind"):
        chat_of(PASS).with_config(**given)
    assert chat_of(PASS).with_config(tags=["a"], thread_id="1").invoke(ASKED).content


def test_fields_of_langchain_go_on_working():
    chat = chat_of(
        PASS,
        name="guarded",
        tags=["a"],
        metadata={"b": 1},
        verbose=False,
        callbacks=None,
        cache=False,
        disable_streaming=True,
        output_version="v1",
        streaming=True,
    )
    message = chat.invoke(ASKED)
    assert message.content[0]["type"] == "text"
    assert (chat.name, chat.tags) == ("guarded", ["a"])


def test_a_pydantic_field_that_is_no_number_is_refused_before_it_is_made_one():
    for given in ({"max_tokens": True}, {"max_tokens": 2.0}, {"seed": True}, {"temperature": "0.5"}):
        (name,) = given
        with pytest.raises(OptionError, match=f"{name} is"):
            chat_of(PASS, **{"max_tokens": 5, **given})


def test_everything_that_changes_an_answer_is_in_the_cache_key():
    key = chat_of(PASS)._get_llm_string()
    for changed in (
        {"max_tokens": 5},
        {"stop": ["a"]},
        {"seed": 1},
        {"top_p": 0.5},
        {"temperature": 1.0},
        {"policy_tags": ["a"]},
        {"on_abstain": "raise"},
        {"with_draft": True},
        {"output_version": "v1"},
    ):
        assert chat_of(PASS, **changed)._get_llm_string() != key


async def _stream_of(chat, config):
    return [chunk async for chunk in chat.astream(ASKED, config)]


@pytest.mark.parametrize(
    "ask",
    [
        lambda chat, config: chat.invoke(ASKED, config),
        lambda chat, config: [*chat.stream(ASKED, config)],
        lambda chat, config: asyncio.run(chat.ainvoke(ASKED, config)),
        lambda chat, config: asyncio.run(_stream_of(chat, config)),
    ],
    ids=["invoke", "stream", "ainvoke", "astream"],
)
def test_nor_is_one_in_the_config_of_a_call(ask):
    chat = chat_of(PASS)
    for config in ({"max_tokens": 2}, {"max_completion_tokens": 2}, {"temperature": 0.5}):
        with pytest.raises(OptionError, match=r"is no part of a config.*bind"):
            ask(chat, config)
    # Another part of an app may have a field of the same name.
    assert ask(chat, {"tags": ["a"], "configurable": {"thread_id": "1", "model": "gpt-5"}})


@pytest.mark.parametrize("policy", [{"version": 1}, 3, ["builtin:default"]], ids=str)
@pytest.mark.parametrize("make", [UncertaintyGuard, UncertaintyMiddleware, ChatGuardrail])
def test_a_policy_that_is_no_name_is_refused_with_a_sentence(make, policy):
    with pytest.raises(PolicyError, match=r"given as a file or as builtin:NAME, not as \w+"):
        make(policy=policy)


@pytest.mark.parametrize("value", ["no", "false", 0, 1, None])
def test_no_text_has_drafts_traced(value):
    with pytest.raises(OptionError, match="trace_drafts is"):
        UncertaintyGuard(policy_of(), tiny(), trace_drafts=value)


@pytest.mark.parametrize("value", ["0.5", None, True, float("nan"), -1, 1.5])
def test_a_threshold_is_a_probability(value):
    with pytest.raises(OptionError, match="threshold"):
        when_uncertain(value)


@pytest.mark.parametrize("option", [{"device": "cpu"}, {"dtype": "float32"}, {"quantization": "8bit"}])
def test_how_a_model_is_opened_is_not_said_of_one_that_is_open(option):
    with pytest.raises(OptionError, match="given by name"):
        ChatGuardrail(model=tiny(), policy=policy_of(PASS), **option).invoke("Hello")
