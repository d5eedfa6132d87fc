"""The chat model: options, abstention, caching, concurrency of one guard behind LangChain's methods."""

import asyncio
import json
import traceback

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, MessagesState, StateGraph

from guardrail.calibration.profile import read_profile, write_profile
from guardrail.errors import AbstainedError, OptionError, PolicyError, PromptError
from guardrail.escalation.queue import HumanQueue
from guardrail.guard import Guard
from guardrail.langchain import ChatGuardrail, verdict_of
from guardrail.models.sampling import Sampling
from tests.support.chat import save_tiny_chat
from tests.support.chat_models import ABSTAIN, chat_of
from tests.support.guards import ASKED, PASS, policy_of, profile_file, tiny

pytestmark = pytest.mark.usefixtures("one_thread")

FLAG = {"id": "warn", "action": "flag", "message": "Check this."}
ESCALATE = {"id": "up", "action": "escalate", "to": "strong", "message": "Somebody will answer."}
STRONG = {"escalation": {"strong": {"chat_model": "fake:strong"}}}


def draft(question=ASKED, **sampling):
    return tiny().generate(question, Sampling(**{"max_tokens": 6, **sampling})).text


def in_every_way(chat, question=ASKED, **options):
    """The message as each of LangChain's methods gives it; chunks joined."""

    async def run():
        chunks = [chunk async for chunk in chat.astream(question, **options)]
        return await chat.ainvoke(question, **options), chunks, await chat.abatch([question], **options)

    alone, chunks, batch = asyncio.run(run())
    messages = [chat.invoke(question, **options), alone, *batch, *chat.batch([question], **options)]
    for some in (chunks, [*chat.stream(question, **options)]):
        whole = some[0]
        for chunk in some[1:]:
            whole += chunk
        messages.append(whole)
    return messages


def test_every_way_gives_the_answer_the_verdict_and_the_usage():
    expected, usage = draft(), None
    for message in in_every_way(chat_of(PASS)):
        assert message.content == expected
        verdict = verdict_of(message)
        assert (verdict["action"], verdict["rule"], verdict["model"]) == ("pass", "all", "tiny")
        assert message.response_metadata["model_name"] == "tiny"
        assert message.response_metadata["finish_reason"] == "length"
        assert message.usage_metadata == (usage := usage or message.usage_metadata)
    assert usage == {"input_tokens": 27, "output_tokens": 6, "total_tokens": 33}


def test_a_flagged_answer_is_shown_and_the_warning_is_in_the_verdict():
    for message in in_every_way(chat_of(FLAG)):
        assert (message.content, verdict_of(message)["message"]) == (draft(), "Check this.")


def test_options_of_a_call_count_before_those_of_the_model():
    chat = chat_of(PASS, max_tokens=9, seed=1)
    assert chat.invoke(ASKED).usage_metadata["output_tokens"] == 9
    assert chat.invoke(ASKED, max_tokens=3).usage_metadata["output_tokens"] == 3
    assert chat.bind(max_tokens=4).invoke(ASKED).usage_metadata["output_tokens"] == 4
    drawn = {"temperature": 1.5, "seed": 7}
    expected = draft(max_tokens=9, **drawn)
    assert expected != draft(max_tokens=9)
    assert [message.content for message in in_every_way(chat, **drawn)] == [expected] * 6
    assert chat.invoke(ASKED, temperature=None).content == draft(max_tokens=9)


def test_where_nobody_says_how_answers_are_drawn_as_those_of_the_profile(tmp_path):
    path = profile_file(tmp_path)
    profile = read_profile(path)
    drawn = {"max_tokens": 5, "temperature": 0.7, "top_p": 0.9}
    making = profile.making.model_copy(update={"generation": drawn})
    write_profile(profile.model_copy(update={"making": making}), path)
    policy = policy_of(PASS, profile=str(path)).found_at(path)
    chat = ChatGuardrail(model=tiny(), policy=policy)
    message = chat.invoke(ASKED, seed=4)
    assert message.content == draft(seed=4, **drawn)
    assert message.usage_metadata["output_tokens"] == 5
    assert chat._get_ls_params()["ls_temperature"] == 0.7
    assert ChatGuardrail(model=tiny(), policy=policy, temperature=0).invoke(ASKED).content == draft(
        max_tokens=5
    )


def test_an_answer_ends_before_a_stop_string_of_the_model_or_of_the_call():
    whole = draft(max_tokens=12)
    stop = whole[4]
    expected = whole[: whole.index(stop)]
    for message in in_every_way(chat_of(PASS, max_tokens=12), stop=[stop]):
        assert message.content == expected
    chat = chat_of(PASS, max_tokens=12, stop=[stop])
    assert chat.invoke(ASKED).content == expected
    assert chat.invoke(ASKED, stop=[]).content == whole


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temprature": 1}, "did you mean 'temperature'"),
        ({"model": "other"}, "no option 'model'"),
        ({"temperature": -1}, "temperature is -1"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"max_tokens": 2.5}, "max_tokens is 2.5"),
        ({"temperature": "hot"}, "temperature is 'hot'; give a number"),
        ({"seed": 1.5}, "seed is 1.5; give a whole number"),
        ({"stop": "now"}, "stop is a list"),
        ({"policy_tags": "demo"}, "policy_tags is a list"),
        ({"on_abstain": "shrug"}, "on_abstain is 'shrug'"),
    ],
)
def test_an_option_that_cannot_be_followed_is_no_option_that_is_ignored(options, said):
    with pytest.raises(OptionError, match=said):
        chat_of(PASS).invoke(ASKED, **options)


def test_what_cannot_work_is_known_when_the_chat_model_is_made(tmp_path):
    with pytest.raises(OptionError, match="did you mean 'temperature'"):
        ChatGuardrail(model=tiny(), temprature=1)
    with pytest.raises(OptionError, match="top_p"):
        ChatGuardrail(model=tiny(), top_p=7)
    with pytest.raises(PolicyError, match="no such file"):
        ChatGuardrail(model=tiny(), policy=tmp_path / "none.yaml")
    with pytest.raises(OptionError, match="no escalation target"):
        chat_of(PASS, targets={"strong": print})
    assert ChatGuardrail(model=tiny(), max_retries=2).guard.policy.name == "default"


def test_a_question_that_cannot_be_asked_is_the_callers_error():
    for question in ("", "x" * 3000, [HumanMessage([{"type": "image", "url": "https://x/y.png"}])]):
        with pytest.raises(PromptError):
            chat_of(PASS).invoke(question)


def test_tags_reach_the_rules():
    chat = chat_of({"id": "medical", "when": {"tags": ["medical"]}, "action": "abstain"}, PASS)
    assert verdict_of(chat.invoke(ASKED))["rule"] == "all"
    for message in in_every_way(chat, policy_tags=["medical"]):
        assert verdict_of(message)["rule"] == "medical"
    tagged = chat.model_copy(update={"policy_tags": ["medical"]})
    assert verdict_of(tagged.invoke(ASKED))["rule"] == "medical"


class Watcher(BaseCallbackHandler):
    """Keeps whatever LangChain tells it."""

    run_inline = True

    def __init__(self):
        self.seen = []

    def __getattribute__(self, name):
        if name.startswith("on_"):
            return lambda *values, **named: self.seen.append((name, values, named))
        return super().__getattribute__(name)


STATE = {"messages": [HumanMessage(ASKED)]}
MODES = ["messages", "updates", "values", "custom", "debug", "tasks"]


def graph_of(chat):
    graph = StateGraph(MessagesState)
    graph.add_node("answer", lambda state: {"messages": [chat.invoke(state["messages"])]})
    graph.add_edge(START, "answer")
    return graph.compile()


def everything_told(chat):
    """All that anybody around a chat model is told: results, events, callbacks, cache, errors, repr."""
    watcher, cache, gathered, errors = Watcher(), InMemoryCache(), [], []
    chat = chat.model_copy(update={"callbacks": [watcher], "cache": cache})

    async def events(version):
        stream = chat.astream_events(ASKED, version=version)
        gathered.extend([event async for event in (stream if version == "v2" else await stream)])

    async def graph_events():
        gathered.extend([part async for part in graph_of(chat).astream(STATE, stream_mode=MODES)])

    for use in (
        lambda: gathered.extend(in_every_way(chat)),
        lambda: gathered.extend(graph_of(chat).stream(STATE, stream_mode=MODES)),
        lambda: asyncio.run(graph_events()),
        lambda: asyncio.run(events("v2")),
        lambda: asyncio.run(events("v3")),
        lambda: gathered.extend(chat.stream_events(ASKED, version="v3")),
        lambda: gathered.append(chat.generate([[HumanMessage(ASKED)]])),
    ):
        try:
            use()
        except AbstainedError as error:
            errors.append(error)
    assert len(watcher.seen) > 5
    told = [repr(chat), repr(cache._cache), repr(watcher.seen), str(watcher.seen)]
    told += [form(one) for one in gathered for form in (repr, str, dumps)]
    for error in errors:
        told += [*traceback.format_exception(error), *_locals(error)]
    return told, errors


def is_told(text, told):
    # As JSON and repr would have it, too.
    forms = (text, json.dumps(text)[1:-1], repr(text)[1:-1])
    return any(form in one for form in forms for one in told)


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
@pytest.mark.parametrize("on_abstain", ["message", "refusal", "raise"])
def test_a_withheld_draft_is_nowhere(on_abstain):
    told, errors = everything_told(chat_of(ABSTAIN, on_abstain=on_abstain))
    assert not is_told(draft(), told)
    assert is_told("I would rather not say.", told)
    assert len(errors) == (7 if on_abstain == "raise" else 0)


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
def test_a_draft_that_is_not_withheld_is_found_where_it_is_looked_for():
    assert is_told(draft(), everything_told(chat_of(PASS))[0])
    assert is_told(draft(), everything_told(chat_of(ABSTAIN, with_draft=True))[0])


def _locals(error):
    """What a tool that looks into tracebacks finds, as deep as it may look."""
    found = []
    frames = [
        frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename != __file__
    ]
    assert len(frames) > 3
    for frame in frames:
        for value in frame.f_locals.values():
            found.append(repr(value))
            found += [
                repr(getattr(value, name)) for name in ("draft", "said", "text") if hasattr(value, name)
            ]
    return found


def test_abstaining_gives_the_policys_message_and_the_draft_on_request_only():
    for message in in_every_way(chat_of(ABSTAIN)):
        assert (message.content, message.additional_kwargs) == ("I would rather not say.", {})
        assert verdict_of(message)["action"] == "abstain"
        assert "draft" not in verdict_of(message)
        assert message.usage_metadata["output_tokens"] == 6
    assert verdict_of(chat_of(ABSTAIN, with_draft=True).invoke(ASKED))["draft"] == draft()


def test_a_refusal_is_marked_as_one_and_can_be_read():
    for message in in_every_way(chat_of(ABSTAIN, on_abstain="refusal")):
        assert message.text == "I would rather not say."
        assert message.additional_kwargs == {"refusal": "I would rather not say."}
    assert chat_of(PASS, on_abstain="refusal").invoke(ASKED).additional_kwargs == {}


def test_a_refusal_is_langchains_own_block_where_the_core_has_one(monkeypatch):
    from langchain_core.messages import content

    def create(text):
        return {"type": "refusal", "refusal": text}

    monkeypatch.setattr(content, "create_refusal_block", create, raising=False)
    message = chat_of(ABSTAIN, on_abstain="refusal").invoke(ASKED)
    assert message.content == [{"type": "refusal", "refusal": "I would rather not say."}]


def test_raising_lets_fallbacks_answer_in_every_way():
    chat = chat_of(ABSTAIN, on_abstain="raise")
    with pytest.raises(AbstainedError, match=r"rule 'never'.*I would rather not say") as raised:
        chat.invoke(ASKED)
    assert (raised.value.verdict["rule"], raised.value.verdict["action"]) == ("never", "abstain")
    chain = chat.with_fallbacks([RunnableLambda(lambda _: AIMessage("Goethe."))]) | StrOutputParser()
    assert {text if isinstance(text, str) else text.content for text in in_every_way(chain)} == {"Goethe."}
    calm = chat_of(PASS).with_fallbacks([RunnableLambda(lambda _: AIMessage("Goethe."))])
    assert calm.invoke(ASKED).content == draft()


def test_an_escalated_answer_is_the_targets_and_is_no_abstention(tmp_path):
    strong = GenericFakeChatModel(messages=iter([AIMessage("Goethe wrote it.")] * 9))
    chat = chat_of(ESCALATE, policy=STRONG, targets={"strong": strong}, on_abstain="raise")
    for message in in_every_way(chat):
        assert message.content == "Goethe wrote it."
        assert verdict_of(message)["escalation"]["source"] == "GenericFakeChatModel"
    queue = {"escalation": {"strong": {"queue": f"sqlite:///{tmp_path}/q.db"}}}
    waiting = chat_of(ESCALATE, policy=queue).invoke(ASKED)
    assert waiting.content == "Somebody will answer."
    assert verdict_of(waiting)["escalation"]["ticket"]
    with pytest.raises(AbstainedError):
        chat_of(ESCALATE, policy=queue, on_abstain="raise").invoke(ASKED)


def test_where_a_policy_observes_the_answer_is_shown_and_nothing_raised():
    for message in in_every_way(chat_of(ABSTAIN, mode="observe", on_abstain="raise")):
        assert message.content == draft()
        assert (verdict_of(message)["action"], verdict_of(message)["enforced"]) == ("abstain", False)


def test_the_cache_gives_back_an_answer_and_never_one_of_another_policy_or_option(tmp_path):
    cache = InMemoryCache()
    shared = {"cache": cache}
    chats = [
        chat_of(PASS, **shared),
        chat_of(FLAG, **shared),
        chat_of(PASS, policy={"profile": "auto", "description": "other"}, **shared),
        chat_of(PASS, max_tokens=5, **shared),
        chat_of(PASS, temperature=0.5, seed=1, **shared),
        chat_of(PASS, stop=["\n"], **shared),
        chat_of(PASS, on_abstain="raise", **shared),
        chat_of(PASS, policy_tags=["a"], **shared),
        chat_of(PASS, with_draft=True, **shared),
        chat_of(PASS, policy=STRONG, targets={"strong": lambda case: "one"}, **shared),
        chat_of(PASS, policy=STRONG, targets={"strong": lambda case: "other"}, **shared),
        ChatGuardrail(model=str(save_tiny_chat(tmp_path / "m", seed=3)), max_tokens=6, cache=cache),
    ]
    requests = []
    for chat in chats:
        first, again = chat.invoke(ASKED), chat.invoke(ASKED)
        assert again.content == first.content
        assert verdict_of(again) == verdict_of(first)
        requests.append(verdict_of(first)["request"])
    assert len(set(requests)) == len(chats)
    assert verdict_of(chats[0].invoke(ASKED, max_tokens=3))["request"] not in requests
    assert verdict_of(chats[0].invoke(ASKED, policy_tags=["b"]))["request"] not in requests


def test_the_cache_key_holds_the_profile(tmp_path):
    cache = InMemoryCache()
    certain = {"id": "certain", "when": {"confidence": {"gte": 0.5}}, "action": "pass"}
    seen = set()
    for intercept in (2.0, -2.0):
        folder = tmp_path / str(intercept)
        folder.mkdir()
        (folder / "p.yaml").write_text(
            "version: 1\nname: mine\nprofile: profile.json\nrules:\n"
            f"  - {json.dumps(certain)}\n  - {json.dumps(ABSTAIN)}\n"
        )
        profile_file(folder, intercept=intercept)
        chat = ChatGuardrail(model=tiny(), policy=folder / "p.yaml", max_tokens=6, cache=cache)
        seen.add(verdict_of(chat.invoke(ASKED))["action"])
    assert seen == {"pass", "abstain"}


def test_targets_that_langchain_can_tell_apart_are_told_apart_and_no_more(tmp_path):
    queue = HumanQueue(f"sqlite:///{tmp_path}/q.db")

    def of(target):
        chat = chat_of(PASS, policy=STRONG, targets={"strong": target})
        return chat._identifying_params["targets"]

    assert of(queue) == of(HumanQueue(queue.url)) == {"strong": queue.url}
    assert of(chat_of(PASS)) == of(chat_of(PASS)) != of(chat_of(FLAG))
    assert of(print) != of(print)


def test_a_field_that_is_set_anew_is_not_answered_by_the_guard_of_before():
    chat = chat_of(PASS)
    first = chat.invoke(ASKED)
    strict = chat.model_copy(update={"policy": chat_of(ABSTAIN).policy})
    assert strict.invoke(ASKED).content == "I would rather not say."
    assert chat.invoke(ASKED).content == first.content
    chat.policy = strict.policy
    assert chat.invoke(ASKED).content == "I would rather not say."


def test_tracers_are_told_the_model_and_its_options():
    chat = chat_of(PASS, temperature=0.5, stop=["x"])
    assert chat._get_ls_params(max_tokens=3) == {
        "ls_provider": "guardrail",
        "ls_model_name": "tiny",
        "ls_model_type": "chat",
        "ls_temperature": 0.5,
        "ls_max_tokens": 3,
        "ls_stop": ["x"],
    }
    assert repr(chat) == "ChatGuardrail(model='tiny', policy='test', on_abstain='message')"
    assert chat._llm_type == "guardrail"


def test_tokens_are_counted_once():
    for use in (
        lambda chat, config: chat.invoke(ASKED, config),
        lambda chat, config: [*chat.stream(ASKED, config)],
    ):
        counter = UsageMetadataCallbackHandler()
        use(chat_of(ABSTAIN), {"callbacks": [counter]})
        assert counter.usage_metadata["tiny"]["output_tokens"] == 6


def test_chat_models_of_the_same_name_share_their_weights(tmp_path):
    folder = str(save_tiny_chat(tmp_path / "m"))
    one, other = (ChatGuardrail(model=folder, policy=f"builtin:{name}") for name in ("default", "strict"))
    assert one.guard.model is other.guard.model
    assert ChatGuardrail(model=folder, dtype="float64").guard.model is not one.guard.model


def test_many_requests_at_once_each_get_their_own():
    questions = [f"Question {at}: who was number {at * 7}?" for at in range(40)]
    chat = chat_of(PASS, batch_size=6)
    alone = [Guard(chat.policy, tiny()).ask(question, Sampling(max_tokens=6)) for question in questions]
    results = [*chat.batch(questions, {"max_concurrency": 10}), *asyncio.run(chat.abatch(questions))]
    for message, expected in zip(results, alone * 2, strict=True):
        assert message.content == expected.text
        assert verdict_of(message)["scores"] == pytest.approx(dict(expected.uncertainty.scores()), rel=1e-3)
    assert len({verdict_of(message)["request"] for message in results}) == 80


def test_in_a_batch_one_failure_is_one_failure():
    results = chat_of(PASS).batch([ASKED, "", ASKED], return_exceptions=True)
    assert [type(result).__name__ for result in results] == ["AIMessage", "PromptError", "AIMessage"]


@pytest.mark.slow
@pytest.mark.untraced
def test_500_requests_of_50_threads_and_of_as_many_tasks_each_get_their_own():
    questions = [f"Question {at}: who was number {at * 7}?" for at in range(500)]
    chat = chat_of(PASS, batch_size=8, max_tokens=4)
    alone = [Guard(chat.policy, tiny()).ask(question, Sampling(max_tokens=4)) for question in questions]
    for results in (chat.batch(questions, {"max_concurrency": 50}), asyncio.run(chat.abatch(questions))):
        for message, expected in zip(results, alone, strict=True):
            assert message.content == expected.text
            scores = expected.as_plain()["scores"]
            # What says nothing has no scores.
            assert verdict_of(message)["scores"] == (scores and pytest.approx(scores, rel=1e-3))
