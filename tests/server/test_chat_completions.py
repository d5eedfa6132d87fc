"""Real clients on loopback: what a chat completion is, whole and as a stream."""

import json
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from guardrail.models.sampling import Sampling
from tests.support.chat_models import ABSTAIN, calling_model
from tests.support.guards import ASKED, PASS, guard_of, profile_file, tiny
from tests.support.serving import CHAT, QUESTION, Held, serving

pytestmark = pytest.mark.usefixtures("one_thread")

FLAG = {"id": "warn", "action": "flag", "message": "Check this."}
LIVE = {"streaming": "annotate", "on_uncalibrated": "flag", "on_outside_domain": "flag"}
DRAWN = {"temperature": 1.0, "seed": 3, "max_tokens": 24}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"day": {"enum": ["now", "later"]}},
            "required": ["day"],
        },
    },
}


def draft(asked=ASKED, tokens=6):
    return tiny().generate(asked, Sampling(max_tokens=tokens)).text


def drawn():
    return tiny().generate(ASKED, Sampling(**DRAWN)).text


def client_of(served, **options):
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0, **options)


@pytest.fixture(scope="module")
def passing():
    with serving(PASS) as served:
        yield served


@pytest.fixture(scope="module")
def abstaining():
    with serving(ABSTAIN) as served:
        yield served


def test_the_openai_client_gets_the_answer_with_its_verdict(passing):
    with client_of(passing) as client:
        raw = client.chat.completions.with_raw_response.create(
            model="tiny", messages=QUESTION, max_completion_tokens=6, user="me", metadata={"app": "test"}
        )
    answer = raw.parse()
    (choice,) = answer.choices
    assert choice.message.content == draft()
    assert choice.finish_reason == "length"
    assert answer.usage.completion_tokens == 6
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 6
    assert answer.guardrail["action"] == raw.headers["x-guardrail-action"] == "pass"
    assert "x-guardrail-confidence" not in raw.headers
    assert answer.id == f"chatcmpl-{raw.headers['x-request-id']}"
    assert "draft" not in answer.guardrail


def test_a_withheld_answer_is_the_policys_message(abstaining):
    with client_of(abstaining) as client:
        answer = client.chat.completions.create(model="tiny", messages=QUESTION, max_tokens=6)
    assert answer.choices[0].message.content == ABSTAIN["message"]
    assert answer.choices[0].finish_reason == "content_filter"
    assert answer.guardrail["action"] == "abstain"


def test_the_guard_decides_as_in_process(passing):
    here = guard_of(PASS).ask(ASKED, Sampling(max_tokens=6)).as_plain()
    there = passing.chat().json()["guardrail"]
    for name in ("scores", "usage", "action", "rule", "reason", "finish_reason"):
        assert there[name] == (pytest.approx(here[name]) if name == "scores" else here[name])


@pytest.mark.parametrize("rule", [PASS, FLAG, ABSTAIN], ids=lambda rule: rule["action"])
@pytest.mark.parametrize("live", [False, True])
def test_a_stream_says_what_the_whole_would(rule, live):
    if live and rule is ABSTAIN:
        pytest.skip("a policy that withholds is never streamed live")
    with serving(rule, policy=LIVE if live else {}) as served, client_of(served) as client:
        chunks = [
            *client.chat.completions.create(
                model="tiny",
                messages=QUESTION,
                **DRAWN,
                stream=True,
                stream_options={"include_usage": True},
            )
        ]
    *told, last, usage = chunks
    text = "".join(chunk.choices[0].delta.content or "" for chunk in told)
    assert text == (ABSTAIN["message"] if rule is ABSTAIN else drawn())
    assert (len(told) > 5) is live
    assert {chunk.id for chunk in chunks} == {last.id}
    assert told[0].choices[0].delta.role == "assistant"
    assert all(chunk.choices[0].finish_reason is None and chunk.usage is None for chunk in told)
    assert last.choices[0].finish_reason == ("content_filter" if rule is ABSTAIN else "length")
    assert last.guardrail["action"] == rule["action"]
    assert usage.choices == []
    assert usage.usage.completion_tokens == 24


def test_a_stream_ends_as_openais_do_and_keeps_the_connection_alive():
    body = {"model": "tiny", "messages": QUESTION, "max_tokens": 3, "stream": True}
    with (
        serving(PASS, keep_alive=0.02) as served,
        Held(served.guard) as held,
        served.client.stream("POST", CHAT, json=body) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.iter_lines()
        assert next(lines) == ": keep-alive"
        held.let_go()
        events = [line.removeprefix("data: ") for line in lines if line.startswith("data")]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert all(chunk["choices"] and "usage" not in chunk for chunk in chunks)


def test_parts_of_text_earlier_turns_and_developers_are_read(passing):
    messages = [
        {"role": "developer", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
        {"role": "assistant", "content": "Hi.", "refusal": None, "annotations": None, "tool_calls": None},
        {"role": "user", "content": [{"type": "text", "text": "Who"}, {"type": "text", "text": " am I?"}]},
    ]
    spoken = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "Who am I?"},
    ]
    answer = passing.chat(messages).json()
    assert answer["choices"][0]["message"]["content"] == draft(spoken)


def test_a_turn_that_was_withheld_is_no_part_of_the_next_prompt(abstaining):
    withheld = abstaining.chat().json()
    message = {**withheld["choices"][0]["message"], "guardrail": withheld["guardrail"]}
    again = abstaining.chat([*QUESTION, message, *QUESTION]).json()
    assert again["guardrail"]["turns_left_out"] == 1
    assert again["guardrail"]["usage"]["prompt_tokens"] == withheld["guardrail"]["usage"]["prompt_tokens"]


def test_options_of_sampling_are_followed(passing):
    drawn = {"temperature": 1.0, "top_p": 0.9, "seed": 7, "max_tokens": 12}
    expected = tiny().generate(ASKED, Sampling(**drawn)).text
    assert passing.chat(**drawn).json()["choices"][0]["message"]["content"] == expected
    stop = expected[4:6]
    answer = passing.chat(**drawn, stop=stop).json()["choices"][0]
    assert answer["message"]["content"] == expected[: expected.index(stop)]
    assert answer["finish_reason"] == "stop"


def test_json_fits_its_schema(passing):
    schema = {"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"]}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    answer = passing.chat(response_format=form, max_tokens=40).json()
    assert set(json.loads(answer["choices"][0]["message"]["content"])) == {"sure"}


def test_a_tool_that_must_be_called_is_called_and_its_result_read():
    with serving(PASS, model=calling_model()) as served, client_of(served) as client:
        asked = {"model": "caller", "tools": [WEATHER], "max_tokens": 100}
        answer = client.chat.completions.create(messages=QUESTION, tool_choice="required", **asked)
        (call,) = answer.choices[0].message.tool_calls
        assert answer.choices[0].finish_reason == "tool_calls"
        assert call.function.name == "weather"
        assert json.loads(call.function.arguments)["day"] in ("now", "later")
        result = {"role": "tool", "tool_call_id": call.id, "content": "Rain."}
        said = answer.choices[0].message.model_dump(exclude={"guardrail"})
        after = client.chat.completions.create(
            messages=[*QUESTION, said, result], **{**asked, "max_tokens": 4}
        )
        assert after.guardrail["usage"]["prompt_tokens"] > answer.guardrail["usage"]["prompt_tokens"]
        chunks = client.chat.completions.create(
            messages=QUESTION, tool_choice=_named("weather"), stream=True, **asked
        )
        calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
        assert [(call.index, call.function.name) for call in calls] == [(0, "weather")]


def _named(name):
    return {"type": "function", "function": {"name": name}}


def test_fifty_clients_at_once_get_each_their_own_answer(passing):
    questions = [f"What is {number}?" for number in range(50)]
    guard = guard_of(PASS)
    expected = [guard.ask(question, Sampling(max_tokens=3)).text for question in questions]
    with ThreadPoolExecutor(50) as pool:
        messages = [[{"role": "user", "content": question}] for question in questions]
        answers = [*pool.map(lambda asked: passing.chat(asked, max_tokens=3).json(), messages)]
    assert [answer["choices"][0]["message"]["content"] for answer in answers] == expected
    assert len({answer["guardrail"]["request"] for answer in answers}) == 50


def test_a_response_of_elsewhere_is_decided_on(passing, abstaining):
    asked = {"messages": QUESTION, "response": "Goethe wrote it."}
    judged = passing.client.post("/v1/guardrail/judge", json=asked)
    assert judged.headers["x-guardrail-action"] == "pass"
    document = judged.json()
    assert (document["answer"], document["action"]) == ("Goethe wrote it.", "pass")
    here = guard_of(PASS).judge(ASKED, "Goethe wrote it.").as_plain()
    assert document["scores"] == pytest.approx(here["scores"])
    ids = tiny().token_ids("Goethe wrote it.")
    by_ids = passing.client.post("/v1/guardrail/judge", json={"messages": QUESTION, "response": ids})
    assert by_ids.json()["answer"] == "Goethe wrote it."
    withheld = abstaining.client.post("/v1/guardrail/judge", json=asked)
    assert withheld.json()["answer"] == ABSTAIN["message"]
    assert "Goethe" not in withheld.text


def test_a_response_that_nobody_is_named_for_has_no_confidence(tmp_path):
    guard = guard_of(PASS, profile=profile_file(tmp_path))
    asked = {"messages": QUESTION, "response": "Goethe wrote it."}
    with serving(guard=guard) as served:
        unnamed, own, foreign = (
            served.client.post("/v1/guardrail/judge", json={**asked, **named}).json()
            for named in ({}, {"model": "tiny"}, {"answered_by": "gpt-4o"})
        )
    assert own["confidence"] is not None
    assert (unnamed["confidence"], foreign["confidence"]) == (None, None)
    assert (unnamed["guarantees"], foreign["guarantees"]) == (None, None)


def test_models_and_health_are_told(passing):
    with client_of(passing) as client:
        assert [model.id for model in client.models.list()] == ["tiny"]
        assert client.models.retrieve("tiny").owned_by == "guardrail"
    assert passing.client.get("/healthz").json() == {"status": "ok"}
    assert passing.client.get("/readyz").json()["status"] == "ready"
    described = passing.client.get("/openapi.json").json()
    assert "ChatCompletionRequest" in described["components"]["schemas"]
