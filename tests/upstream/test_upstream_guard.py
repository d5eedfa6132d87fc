"""What a server is asked, and what becomes of its answer: calls, schemas, stops, time, cancellation."""

import asyncio
import json
import pickle
import threading
import time

import pytest

from guardrail.errors import AnswerTimeoutError, OptionError, PromptError
from guardrail.guard import Guard
from guardrail.models.decoding import CancelledError, GenerationControls
from guardrail.models.sampling import Sampling
from guardrail.upstream.chat_endpoint import ChatEndpoint
from guardrail.upstream.upstream_guard import UpstreamGuard
from tests.support.chat_models import calling_model
from tests.support.guards import ASKED, PASS, SHORT, policy_of, tiny
from tests.support.upstream import FAULTS, LARGEST, LEAKED, inference_server

pytestmark = pytest.mark.usefixtures("one_thread")

ABSTAIN = {"id": "no", "action": "abstain", "message": "No."}
FIND = {"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


@pytest.fixture(scope="module")
def shared():
    with inference_server(tiny()) as server:
        yield server


@pytest.fixture(scope="module")
def shared_caller():
    with inference_server(calling_model()) as server:
        yield server


@pytest.fixture
def server(shared):
    return shared.renewed()


@pytest.fixture
def caller(shared_caller):
    """One whose model can be shown tools."""
    return shared_caller.renewed()


def guard_of(server, *rules, timeout=60.0, policy=None, **options):
    policy = policy_of(*rules, **(policy or {}))
    upstream = ChatEndpoint(server.url, timeout=timeout, most_bytes=LARGEST)
    return UpstreamGuard(policy, server.model, upstream, weights="same", **options)


def test_what_is_asked(server):
    guard = guard_of(server)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASKED}]
    guard.ask(messages, Sampling(max_tokens=5, temperature=0.5, top_p=0.9, seed=7, stop=("zz",)))
    probe, asked = server.asked
    assert probe["max_tokens"] == 1
    assert asked == {
        "model": "tiny",
        "messages": messages,
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["zz"],
        "n": 1,
        "stream": False,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "logprobs": True,
        "return_token_ids": True,
    }


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_no_answer(server, fault, caplog):
    server.fault = fault
    answer = guard_of(server, PASS, timeout=0.5 if fault == "hang" else 60.0).ask(ASKED, SHORT)
    assert (answer.action, answer.rule, answer.draft) == ("abstain", "on_error", None)
    assert answer.error.startswith("UpstreamError: the model gave no answer (the server")
    assert LEAKED not in f"{answer!r}{answer.as_plain(draft=True)}{caplog.text}"


def test_a_server_that_is_not_there_is_no_answer():
    upstream = ChatEndpoint("http://127.0.0.1:1", "tiny", timeout=2)
    answer = UpstreamGuard(policy_of(PASS), tiny(), upstream, weights="same").ask(ASKED, SHORT)
    assert (answer.rule, answer.draft) == ("on_error", None)
    assert "cannot be reached" in answer.error


def test_a_policy_that_observes_shows_nothing_where_there_is_nothing(server):
    server.fault = "half"
    answer = guard_of(server, PASS, policy={"mode": "observe"}).ask(ASKED, SHORT)
    assert (answer.draft, answer.enforced) == (None, False)


def test_withheld_turns_are_not_sent(server):
    guard = guard_of(server, ABSTAIN)
    withheld = guard.ask(ASKED, SHORT)
    first = [{"role": "user", "content": ASKED}, {"role": "assistant", "content": withheld.text}]
    again = guard.ask([*first, {"role": "user", "content": "And now?"}], SHORT)
    assert server.asked[-1]["messages"] == [{"role": "user", "content": "And now?"}]
    assert again.turns_left_out == 1


def test_calls_are_sent_as_the_api_has_them(caller):
    call = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": {"a": 1}}}
    messages = [
        {"role": "user", "content": ASKED},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "found", "tool_call_id": "c1"},
    ]
    guard_of(caller).ask(messages, SHORT, controls=GenerationControls(tools=[FIND]), calls_in=lambda _: [])
    (_, sent, _) = caller.asked[-1]["messages"]
    assert json.loads(sent["tool_calls"][0]["function"]["arguments"]) == {"a": 1}
    assert caller.asked[-1]["tool_choice"] == "auto"


def reported(name="find", arguments="{}"):
    return {"content": None, "tool_calls": [{"function": {"name": name, "arguments": arguments}}]}


def test_calls_that_the_local_reading_does_not_find_are_withheld(caller):
    caller.changes["message"] = reported()
    controls = GenerationControls(tools=[FIND])
    for calls_in in (None, lambda _: [], lambda _: ["other"]):
        answer = guard_of(caller).ask(ASKED, SHORT, controls=controls, calls_in=calls_in)
        assert (answer.rule, answer.action) == ("on_error", "abstain")


def test_calls_are_given_to_the_policy(caller):
    caller.changes["message"] = reported()
    held = {"id": "tool", "when": {"tool_call": ["find"]}, "action": "abstain"}
    controls = GenerationControls(tools=[FIND])
    answer = guard_of(caller, held, PASS).ask(ASKED, SHORT, controls=controls, calls_in=lambda _: ["find"])
    assert answer.rule == "tool"


def test_calls_of_a_server_without_ids_are_read_and_foreign():
    with inference_server(calling_model(), knows=()) as server:
        server.changes["message"] = reported(arguments='{"a": 1}')
        drafts = []
        answer = guard_of(server, PASS).ask(
            ASKED,
            SHORT,
            controls=GenerationControls(tools=[FIND]),
            calls_in=lambda draft: drafts.append(draft) or ["find"],
        )
    assert '{"name": "find", "arguments": {"a": 1}}' in drafts[0]
    assert [call.name for call in answer.tool_calls] == ["find"]
    assert answer.generated_by["weights"] == "foreign"
    assert answer.outside_domain


@pytest.mark.parametrize(
    ("content", "fits"),
    [
        ('{"a": 1}', True),
        ('{\n "a": 1\n}', True),
        ('{"a": "x"}', False),
        ("a is 1", False),
        ('{"a": 1}{', False),
    ],
)
def test_a_schema_that_the_server_passed_over_is_an_error(content, fits):
    with inference_server(tiny(), knows=()) as server:
        server.changes["content"] = content
        server.changes["finish_reason"] = "stop"
        controls = GenerationControls(json_schema=SCHEMA, processor=lambda _: None)
        answer = guard_of(server, PASS).ask(ASKED, SHORT, controls=controls)
    assert server.asked[-1]["response_format"]["json_schema"]["schema"] == SCHEMA
    assert (answer.text == content) == fits
    assert (answer.rule == "on_error") != fits


@pytest.mark.parametrize(("spelled", "fits"), [('{"a": 1}', True), ('Sure! {"a": 1} Bye.', False)])
def test_the_schema_holds_of_what_the_token_ids_spell(server, spelled, fits):
    ids = tiny().token_ids(spelled)
    server.changes |= {"content": '{"a": 1}', "ids": list(ids), "finish_reason": "stop"}
    server.changes["logprobs"] = [-1.0] * len(ids)
    controls = GenerationControls(json_schema=SCHEMA, processor=lambda _: None)
    answer = guard_of(server, PASS).ask(ASKED, Sampling(max_tokens=40), controls=controls)
    assert (answer.text == spelled) == fits
    assert (answer.rule == "on_error") != fits


def test_a_stop_string_is_cut_off_as_here(server):
    plain = tiny().generate(ASKED, Sampling(max_tokens=30)).text
    stop = plain[10:12]
    sampling = Sampling(max_tokens=30, stop=(stop,))
    answer = guard_of(server).ask(ASKED, sampling)
    here = Guard(policy_of(PASS), tiny()).ask(ASKED, sampling)
    assert answer.text == here.text == plain[: plain.index(stop)]
    assert answer.uncertainty.scores() == pytest.approx(here.uncertainty.scores(), rel=1e-4)


def test_a_stop_string_needs_ids():
    with (
        inference_server(tiny(), knows=["logprobs"]) as server,
        pytest.raises(OptionError, match="stop cannot"),
    ):
        guard_of(server).ask(ASKED, Sampling(max_tokens=4, stop=("x",)))


def test_scores_are_those_of_the_answer_made_here(server):
    sampling = Sampling(max_tokens=12)
    there, here = guard_of(server).ask(ASKED, sampling), Guard(policy_of(PASS), tiny()).ask(ASKED, sampling)
    assert (there.text, there.finish_reason, there.usage) == (here.text, here.finish_reason, here.usage)
    assert there.uncertainty.scores() == pytest.approx(here.uncertainty.scores(), rel=1e-4)


def test_nothing_is_asked_that_cannot_be(server):
    guard = guard_of(server)
    with pytest.raises(PromptError):
        guard.ask("")
    with pytest.raises(PromptError):
        guard.ask("word " * 400)
    with pytest.raises(OptionError, match="on_text"):
        guard.ask(ASKED, controls=GenerationControls(on_text=print))
    with pytest.raises(OptionError, match="processor"):
        guard.ask(ASKED, controls=GenerationControls(processor=lambda _: None))
    with pytest.raises(OptionError, match="streaming is annotate"):
        guard_of(server, PASS, policy={"streaming": "annotate"})
    assert not server.asked


def test_a_time_limit_closes_the_connection(server):
    guard = guard_of(server)
    guard.ask(ASKED, SHORT)
    server.fault = "hang"
    with pytest.raises(AnswerTimeoutError):
        guard.ask(ASKED, SHORT, timeout=3)
    assert server.left.wait(30)


def test_a_caller_who_gives_up_closes_the_connection(server):
    server.fault = "hang"
    controls = GenerationControls(goes_on=lambda: not server.began.is_set())
    with pytest.raises(CancelledError):
        guard_of(server).ask(ASKED, SHORT, controls=controls)
    assert server.left.wait(10)


async def test_a_cancelled_task_closes_the_connection(server):
    server.fault = "hang"
    task = asyncio.ensure_future(guard_of(server).aask(ASKED, SHORT))
    assert await asyncio.to_thread(server.began.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(server.left.wait, 10)


async def test_many_at_once_each_have_their_own(server):
    guard = guard_of(server, batch_size=4)
    questions = [f"{ASKED} {number}" for number in range(6)]
    answers = await guard.aask_batch(questions, SHORT)
    alone = [Guard(policy_of(PASS), tiny()).ask(question, SHORT).text for question in questions]
    assert [answer.text for answer in answers] == alone
    # Also without await, where a loop runs.
    assert guard.ask(ASKED, SHORT).action == "pass"


def test_a_key_is_sent_and_in_no_words(caplog):
    with inference_server(tiny(), key="sesame-key") as server:
        upstream = ChatEndpoint(server.url, api_key="sesame-key")
        guard = UpstreamGuard(policy_of(PASS), tiny(), upstream, weights="same")
        assert guard.ask(ASKED, SHORT).action == "pass"
        other = UpstreamGuard(policy_of(PASS), tiny(), ChatEndpoint(server.url, "tiny", api_key="wrong-key"))
        refused = other.ask(ASKED, SHORT)
    assert "refuses the key" in refused.error
    assert "sesame-key" not in f"{upstream!r}{guard!r}{caplog.text}"
    with pytest.raises(OptionError, match="pickled"):
        pickle.dumps(upstream)


@pytest.mark.parametrize(
    "url", ["ftp://a/v1", "http://", "a:1", "http://u:p@a/v1", "http://a/v1?b=1", "http://a:99999", ""]
)
def test_urls_that_are_none(url):
    with pytest.raises(OptionError, match="upstream"):
        ChatEndpoint(url)


def test_proxies_of_the_environment_are_not_asked(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert guard_of(server).ask(ASKED, SHORT).error == ""


def test_several_models_have_to_be_told_apart(server):
    server.changes["models"] = ["a", "b"]
    answer = guard_of(server).ask(ASKED, SHORT)
    assert "serves 2 models" in answer.error


def test_readings_of_several_callers_are_run_together(server, monkeypatch):
    guard = guard_of(server, batch_size=4)
    guard.ask(ASKED, SHORT)
    sizes = []
    read = type(guard.model).read_encoded

    def counted(model, prompts, responses, **options):
        sizes.append(len(prompts))
        return read(model, prompts, responses, **options)

    monkeypatch.setattr(type(guard.model), "read_encoded", counted)
    with guard.model.alone():
        threads = [threading.Thread(target=guard.judge, args=(f"{ASKED} {n}", "Goethe.")) for n in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)
    for thread in threads:
        thread.join()
    assert max(sizes) > 1
