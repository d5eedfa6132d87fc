import asyncio
from dataclasses import replace

import pytest
from langchain_core.callbacks import dispatch_custom_event, get_usage_metadata_callback
from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.output_parsers import PydanticOutputParser, StrOutputParser
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import (
    Runnable,
    RunnableGenerator,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)
from pydantic import BaseModel

from guardrail.calibration.profile import write_profile
from guardrail.errors import AbstainedError, ForeignProfileError, OptionError, PolicyError
from guardrail.escalation.queue import HumanQueue
from guardrail.langchain.verdicts import get_uncertainty_callback, verdict_of
from guardrail.langchain.wrapper import UncertaintyGuard
from tests.support.guards import PASS, guard_of, policy_of, profile_of, tiny
from tests.support.wrapping import (
    ABSTAIN,
    BOOK,
    CANARY,
    FLAG,
    PROMPT,
    SAID,
    Listener,
    as_json,
    guard,
    guarded_message,
    merged,
    other_model,
)

pytestmark = pytest.mark.usefixtures("one_thread")

# The tiny model reads a byte a token.
LONG = {
    "id": "long",
    "when": {"uncertainty": {"tokens": {"gt": 30}}},
    "action": "abstain",
    "message": "Too long.",
}
FULL = {"id": "full", "when": {"uncertainty": {"tokens": {"gt": 20}}}, "action": "flag"}
SHORT_TEXT, MIDDLE_TEXT, LONG_TEXT = (
    "Goethe.",
    "It was Goethe, I think.",
    "It was Goethe, or was it Schiller?",
)
ESCALATE = {"id": "up", "action": "escalate", "to": "strong", "message": "Please wait."}
STRONG = {"escalation": {"strong": {"callable": "guardrail.errors:GuardrailError"}}}


def text_chain(*messages):
    return PROMPT | other_model(*messages) | StrOutputParser()


def run_all(chain, question=BOOK):
    """What it gives in each of its four ways; a stream's chunks joined."""

    async def later():
        return await chain.ainvoke(question), [chunk async for chunk in chain.astream(question)]

    whole, chunks = asyncio.run(later())
    return [chain.invoke(question), merged([*chain.stream(question)]), whole, merged(chunks)]


def plan(steps):
    """Models that are called one after the other; the last one's answer is the chain's."""
    chain = RunnableLambda(lambda question: "go on")
    for message in steps:
        chain = chain | other_model(message) | StrOutputParser()
    return chain


# What becomes of the output.


@pytest.mark.parametrize("rule", [PASS, FLAG])
def test_what_may_be_shown_is_the_chains_own_output(rule):
    assert run_all(guard(rule).wrap(text_chain())) == [SAID] * 4


def test_what_is_withheld_is_the_policys_message_in_a_text():
    assert run_all(guard(ABSTAIN).wrap(text_chain())) == [ABSTAIN["message"]] * 4


@pytest.mark.parametrize(("rule", "text"), [(PASS, SAID), (FLAG, SAID), (ABSTAIN, ABSTAIN["message"])])
def test_a_message_carries_the_verdict_and_stays_a_message(rule, text):
    for message in run_all(guard(rule).wrap(PROMPT | other_model())):
        assert isinstance(message, AIMessage)
        assert (message.content, verdict_of(message)["action"]) == (text, rule["action"])
        assert (message.usage_metadata["total_tokens"], message.response_metadata["model_name"]) == (5, "o")
        assert CANARY not in repr(message) or text == SAID
        assert as_json(verdict_of(message)) == verdict_of(message)


def test_the_models_own_message_is_not_changed():
    message = AIMessage(SAID)
    guarded = guard().wrap(RunnableLambda(lambda asked: other_model(message).invoke(asked) and message))
    assert verdict_of(guarded.invoke("Who?")) is not None
    assert message.response_metadata == {}


def test_calls_of_tools_that_cannot_be_read_count_as_calls():
    invalid = {"name": "send_mail", "args": "{", "id": "1", "error": "no JSON"}
    model = other_model(AIMessage("Sent.", invalid_tool_calls=[invalid]))
    risky = {**ABSTAIN, "when": {"tool_call": ["send_*"]}}
    assert guard(risky, PASS).wrap(model).invoke("Send it").content == ABSTAIN["message"]


def test_tool_calls_of_a_withheld_answer_are_gone():
    call = {"name": "send_mail", "args": {"to": CANARY}, "id": "1"}
    model = other_model(AIMessage("", tool_calls=[call]))
    shown = guard({**PASS, "when": {"tool_call": ["read_*"]}}, ABSTAIN).wrap(model).invoke("Send it")
    assert (shown.content, shown.tool_calls) == (ABSTAIN["message"], [])
    assert (
        guard({**PASS, "when": {"tool_call": ["send_*"]}}, ABSTAIN).wrap(model).invoke("Send it").tool_calls
    )


class Book(BaseModel):
    author: str


@pytest.mark.parametrize(
    "output", [{"author": CANARY}, Book(author=CANARY), [CANARY], 3, None, HumanMessage(CANARY)]
)
def test_an_output_without_a_place_for_a_message_is_an_error_that_tells_nothing(output):
    chain = other_model() | RunnableLambda(lambda message: output)
    assert guard(PASS).wrap(chain).invoke("Who?") is output
    for way in (lambda c: c.invoke("Who?"), lambda c: [*c.stream("Who?")]):
        with pytest.raises(AbstainedError, match="no place for a message") as caught:
            way(guard(ABSTAIN).wrap(chain))
        assert CANARY not in f"{caught.value}{caught.value.verdict}"
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_an_error_in_place_of_what_is_withheld_lets_fallbacks_work():
    guarded = guard(ABSTAIN, on_abstain="raise").wrap(text_chain())
    with pytest.raises(AbstainedError, match="rule no"):
        guarded.invoke(BOOK)
    with pytest.raises(AbstainedError):
        next(guarded.stream(BOOK))
    stronger = guarded.with_fallbacks([RunnableLambda(lambda question: "Goethe")])
    assert run_all(stronger) == ["Goethe"] * 4


def test_a_policy_that_observes_changes_nothing():
    assert run_all(guard(ABSTAIN, mode="observe").wrap(text_chain())) == [SAID] * 4
    nothing_seen = guard(mode="observe").wrap(RunnableLambda(lambda question: SAID))
    assert nothing_seen.invoke("Who?") == SAID
    own = text_chain(guarded_message("I do not know.", "abstain", message="Nothing."))
    assert guard(mode="observe").wrap(own).invoke(BOOK) == "I do not know."


# Whose answers are looked at.


def test_the_prompt_and_the_answer_of_another_model_are_scored_by_the_local_one():
    with get_uncertainty_callback() as verdicts:
        guard().wrap(text_chain()).invoke(BOOK)
    direct = guard_of().judge("Who wrote Faust?", SAID, finish_reason="stop")
    assert verdicts[0]["scores"] == direct.uncertainty.scores()
    assert verdicts[0]["model"] == "tiny"


def test_a_conversation_is_read_as_the_model_was_asked():
    asked = [
        SystemMessage("Be brief."),
        HumanMessage([{"type": "text", "text": "Who?"}]),
        AIMessage("Goethe"),
    ]
    asked.append(HumanMessage("Sure?"))
    plain = [("system", "Be brief."), ("user", "Who?"), ("assistant", "Goethe"), ("user", "Sure?")]
    direct = guard_of().judge([{"role": role, "content": text} for role, text in plain], "Yes.")
    verdict = verdict_of(guard().wrap(other_model(AIMessage("Yes."))).invoke(asked))
    assert verdict["scores"] == direct.uncertainty.scores()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"finish_reason": "length"}, "length"),
        ({"stop_reason": "max_tokens"}, "length"),
        ({"done_reason": "stop"}, "stop"),
        ({"stop_reason": "end_turn"}, "stop"),
        ({"finish_reason": "content_filter"}, "stop"),
        ({}, "stop"),
    ],
)
def test_why_an_answer_ended_is_read_as_providers_write_it(said, reason):
    cut_off = {"id": "cut", "when": {"finish_reason": "length"}, "action": "flag"}
    model = other_model(AIMessage(SAID, response_metadata=said))
    action = verdict_of(guard(cut_off, PASS).wrap(model).invoke("Who?"))["action"]
    assert action == ("flag" if reason == "length" else "pass")


def test_the_prompt_of_a_completion_model_is_a_users_message():
    chain = FakeListLLM(responses=[SAID]) | RunnableLambda(str)
    assert guard(ABSTAIN).wrap(chain).invoke("Who wrote Faust?") == ABSTAIN["message"]
    with get_uncertainty_callback() as verdicts:
        assert guard().wrap(chain).invoke("Who wrote Faust?") == SAID
    assert verdicts[0]["scores"] == guard_of().judge("Who wrote Faust?", SAID).uncertainty.scores()


@pytest.mark.parametrize("action", ["pass", "flag", "abstain"])
def test_a_verdict_that_a_message_carries_is_used_as_it_is(action):
    never_asked = guard(ABSTAIN if action != "abstain" else PASS)
    model = other_model(guarded_message("as it came", action, by=never_asked, message="own words"))
    shown = run_all(never_asked.wrap(PROMPT | model | StrOutputParser()))
    assert shown == ["own words" if action == "abstain" else "as it came"] * 4


def test_a_verdict_that_is_none_is_not_believed():
    model = other_model(AIMessage(SAID, response_metadata={"uncertainty": {"action": "pass"}}))
    assert guard(ABSTAIN).wrap(model).invoke("Who?").content == ABSTAIN["message"]


def test_an_answer_that_a_models_own_guard_escalated_stays_if_somebody_answered():
    escalation = {"source": "strong-1", "target": "strong"}
    answered = guarded_message("Goethe", "escalate", by=guard(), escalation=escalation)
    waiting = guarded_message("Wait.", "escalate", escalation={"source": None}, message="Wait.")
    assert guard().wrap(other_model(answered)).invoke("Who?").content == "Goethe"
    with pytest.raises(AbstainedError, match="Wait"):
        guard(on_abstain="raise").wrap(other_model(waiting)).invoke("Who?")


@pytest.mark.parametrize(
    ("name", "data"),
    [("progress", {"action": "pass"}), ("uncertainty", "pass"), ("uncertainty", {"done": 1})],
)
def test_events_of_others_are_no_verdicts(name, data):
    def step(question):
        dispatch_custom_event(name, data)
        return other_model().invoke(question).text

    with get_uncertainty_callback() as verdicts:
        assert guard(ABSTAIN).wrap(step).invoke("Who?") == ABSTAIN["message"]
    assert len(verdicts) == 1


def test_a_model_is_seen_wherever_it_is_called():
    def step(question):
        return other_model().invoke(question).text

    async def astep(question):
        return (await other_model().ainvoke(question)).text

    class Shelf(BaseRetriever):
        def _get_relevant_documents(self, query, *, run_manager):
            return [other_model().invoke(query)]

    for chain in (
        RunnableLambda(step),
        RunnableLambda(astep),
        RunnableLambda(lambda question: {"q": question})
        | RunnablePassthrough.assign(answer=lambda values: step(values["q"]))
        | (lambda values: values["answer"]),
        RunnableParallel(a=step, b=astep) | (lambda values: values["a"]),
        Shelf() | RunnableLambda(lambda found: found[0].text),
        RunnableLambda(lambda question: "".join(chunk.text for chunk in other_model().stream(question))),
        RunnableLambda(lambda question: other_model().batch([question])[0].text),
    ):
        assert asyncio.run(guard(ABSTAIN).wrap(chain).ainvoke("Who?", {"tags": ["t"]})) == ABSTAIN["message"]


def test_a_model_is_seen_and_held_in_a_part_that_hands_on_no_config():
    class Careless(Runnable):
        def invoke(self, input, config=None, **kwargs):  # noqa: A002
            return other_model().invoke(input).text

    listener = Listener()
    with get_uncertainty_callback() as verdicts:
        shown = guard(ABSTAIN).wrap(Careless()).invoke("Who?", {"callbacks": [listener]})
    assert (shown, verdicts[0]["rule"]) == (ABSTAIN["message"], "no")
    assert CANARY not in repr(listener)


def test_tags_of_the_request_reach_the_rules():
    strict = {"id": "strict", "when": {"tags": ["medical"]}, "action": "abstain", "message": "No."}
    guarded = guard(strict, PASS).wrap(text_chain())
    assert guarded.invoke(BOOK) == SAID
    assert guarded.invoke(BOOK, {"tags": ["medical"]}) == "No."
    assert guarded.with_config(tags=["medical"]).invoke(BOOK) == "No."


# What cannot be checked is not shown.


def check_refused(chain, why, question="Who?"):
    for way in (lambda c: c.invoke(question), lambda c: asyncio.run(c.ainvoke(question))):
        with get_uncertainty_callback() as verdicts:
            assert (
                way(guard(on_error={"action": "abstain", "message": "Not checked."}).wrap(chain))
                == "Not checked."
            )
        assert (verdicts[-1]["rule"], verdicts[-1]["action"]) == ("on_error", "abstain")
        assert why in verdicts[-1]["error"]


@pytest.mark.parametrize(
    "question", ["Who?", {"question": "Who?"}, [("user", "Who?")], PROMPT.invoke(BOOK), 3]
)
def test_a_chain_without_a_model_was_not_checked(question):
    check_refused(RunnableLambda(lambda asked: SAID), "no call of a model was seen", question)


def test_a_model_that_failed_and_was_replaced_by_words_was_not_checked():
    chain = other_model(ConnectionError()).with_fallbacks([RunnableLambda(lambda asked: AIMessage(SAID))])
    check_refused(chain | StrOutputParser(), "no call of a model was seen")


def test_an_answer_that_was_left_in_its_middle_is_checked_as_far_as_it_was_read():
    def first_word(question):
        chunks = other_model().stream(question)
        word = next(chunks).text
        chunks.close()
        return word

    cut_off = {**ABSTAIN, "when": {"finish_reason": "length"}}
    assert guard(cut_off, PASS).wrap(first_word).invoke("Who?") == ABSTAIN["message"]
    held = []

    def keeps_it_open(question):
        held.append(other_model().stream(question))
        return next(held[-1]).text

    check_refused(RunnableLambda(keeps_it_open), "not read to its end")


@pytest.mark.parametrize("said", ["", " \n"])
def test_an_empty_answer_was_not_checked(said):
    check_refused(RunnableLambda(lambda asked: other_model(said).invoke(asked) and SAID), "empty")


def test_a_prompt_that_the_local_model_cannot_read_is_not_checked():
    picture = [HumanMessage([{"type": "image_url", "image_url": {"url": "data:,"}}])]
    check_refused(other_model() | StrOutputParser(), "PromptError", picture)
    check_refused(other_model() | StrOutputParser(), "PromptError", "x" * 3000)


def test_what_cannot_be_checked_can_be_escalated(tmp_path):
    queue = HumanQueue(f"sqlite:///{tmp_path}/q.db")
    fields = {
        "on_error": {"action": "escalate", "to": "person"},
        "escalation": {"person": {"queue": queue.url}},
    }
    guarded = guard(**fields).wrap(RunnableLambda(lambda asked: SAID))
    assert "A person will look at it" in guarded.invoke({"question": "Who?"})
    assert "A person will look at it" in asyncio.run(guarded.ainvoke("Who?"))
    cases = sorted(item.case.messages[0]["content"] for item in queue.items())
    assert cases == ["Who?", '{"question": "Who?"}']


# Several calls.


@pytest.mark.parametrize(
    ("steps", "combine", "action"),
    [
        ((SHORT_TEXT, LONG_TEXT), "worst", "abstain"),
        ((LONG_TEXT, SHORT_TEXT), "worst", "abstain"),
        ((LONG_TEXT, MIDDLE_TEXT), "worst", "abstain"),
        ((MIDDLE_TEXT, SHORT_TEXT), "worst", "flag"),
        ((SHORT_TEXT, SHORT_TEXT), "worst", "pass"),
        ((LONG_TEXT, SHORT_TEXT), "last", "pass"),
        ((SHORT_TEXT, LONG_TEXT), "last", "abstain"),
        ((LONG_TEXT, MIDDLE_TEXT), "last", "flag"),
    ],
)
def test_of_several_calls_the_policy_says_which_decides(steps, combine, action):
    guarded = guard(LONG, FULL, PASS, combine=combine).wrap(plan(steps))
    expected = "Too long." if action == "abstain" else steps[-1]
    assert run_all(guarded) == [expected] * 4


def test_all_calls_that_were_looked_at_are_told_each_with_its_run():
    with get_uncertainty_callback() as verdicts:
        guard(LONG, FULL, PASS).wrap(plan([SHORT_TEXT, LONG_TEXT, MIDDLE_TEXT])).invoke("Who?")
    assert [verdict["action"] for verdict in verdicts] == ["pass", "abstain", "flag"]
    assert len({verdict["run_id"] for verdict in verdicts}) == 3


def test_where_the_last_decides_the_others_are_told_of_if_they_have_a_verdict_anyway():
    steps = plan([guarded_message("a", rule="carried"), LONG_TEXT, SHORT_TEXT])
    with get_uncertainty_callback() as verdicts:
        guard(LONG, PASS, combine="last").wrap(steps).invoke("Who?")
    assert [verdict["rule"] for verdict in verdicts] == ["carried", "all"]


def test_of_equal_actions_the_lowest_confidence_decides_and_an_unknown_one_is_lower_still():
    def decisive(*confidences):
        messages = [guarded_message("a", "flag", by=guard(), confidence=value) for value in confidences]
        chain = plan(messages[:-1]) | other_model(messages[-1])
        return verdict_of(guard().wrap(chain).invoke("Who?"))["confidence"]

    assert decisive(0.9, 0.2, 0.5) == 0.2
    assert decisive(0.2, None, 0.5) is None


def test_branches_are_all_looked_at():
    both = RunnableParallel(a=text_chain(SHORT_TEXT), b=text_chain(LONG_TEXT))
    with pytest.raises(AbstainedError, match="long"):
        guard(LONG, PASS).wrap(both).invoke(BOOK)
    joined = both | RunnableLambda(lambda answers: " ".join(answers.values()))
    assert guard(LONG, PASS).wrap(joined).invoke(BOOK) == "Too long."
    assert guard(PASS).wrap(both).invoke(BOOK) == {"a": SHORT_TEXT, "b": LONG_TEXT}


# Guards within guards.


@pytest.mark.parametrize("streaming", ["buffer", "annotate"])
def test_the_verdict_of_a_guard_within_is_used_where_it_has_the_same_policy(streaming):
    within = guard(FLAG, streaming=streaming)
    # It opens no model: nothing is read a second time.
    outer = UncertaintyGuard(policy_of(FLAG, streaming=streaming))
    with get_uncertainty_callback() as verdicts:
        assert run_all(outer.wrap(within.wrap(text_chain()) | RunnableLambda(str))) == [SAID] * 4
    assert [verdict["action"] for verdict in verdicts] == ["flag"] * 4
    assert outer._guard is None


@pytest.mark.parametrize("within", [FLAG, PASS], ids=["flag", "pass"])
@pytest.mark.parametrize("streaming", ["buffer", "annotate"])
def test_under_another_policy_the_stricter_of_both_counts(streaming, within):
    inner = guard(within, streaming=streaming).wrap(text_chain())
    with get_uncertainty_callback() as verdicts:
        assert run_all(guard(ABSTAIN).wrap(inner)) == [ABSTAIN["message"]] * 4
        assert run_all(guard(PASS, name="outer").wrap(inner)) == [SAID] * 4
    assert [verdict["action"] for verdict in verdicts] == ["abstain"] * 4 + [within["action"]] * 4


def test_all_calls_of_a_guard_within_are_looked_at():
    inner = guard(LONG, FULL, PASS, mode="observe").wrap(plan([LONG_TEXT, MIDDLE_TEXT, SHORT_TEXT]))
    with get_uncertainty_callback() as verdicts:
        assert guard(PASS).wrap(inner).invoke("Who?") == SHORT_TEXT
    # One that only observes decided nothing.
    assert [verdict["action"] for verdict in verdicts] == ["pass", "pass", "pass"]
    with pytest.raises(AbstainedError, match="rule long"):
        guard(LONG, PASS, on_abstain="raise").wrap(inner).invoke("Who?")


def test_a_guard_within_decides_for_its_part_under_the_same_policy():
    inner = guard(LONG, PASS, combine="last").wrap(plan([LONG_TEXT, SHORT_TEXT]))
    assert run_all(guard(LONG, PASS, combine="last").wrap(inner), "Who?") == [SHORT_TEXT] * 4
    assert run_all(guard(LONG, PASS).wrap(inner), "Who?") == ["Too long."] * 4


def test_what_a_guard_within_withheld_stays_withheld():
    inner = guard(ABSTAIN).wrap(text_chain())
    chain = inner | RunnableLambda(lambda text: {"answer": text})
    with pytest.raises(AbstainedError, match=ABSTAIN["message"]):
        guard(PASS).wrap(chain).invoke(BOOK)


# Escalation.


def test_a_targets_answer_takes_the_outputs_type():
    up = guard(ESCALATE, **STRONG, targets={"strong": lambda case: "Goethe did"})
    assert run_all(up.wrap(text_chain())) == ["Goethe did"] * 4
    message = up.wrap(PROMPT | other_model()).invoke(BOOK)
    assert (message.content, verdict_of(message)["escalation"]["target"]) == ("Goethe did", "strong")
    with pytest.raises(AbstainedError):
        up.wrap(text_chain() | RunnableLambda(lambda text: {"a": text})).invoke(BOOK)


def test_a_target_is_asked_what_the_model_was_asked():
    cases = []
    up = guard(ESCALATE, **STRONG, targets={"strong": lambda case: cases.append(case) or "Goethe"})
    up.wrap(text_chain()).invoke(BOOK)
    assert (cases[0].messages, cases[0].draft) == ([{"role": "user", "content": "Who wrote Faust?"}], SAID)


def test_an_answer_to_a_step_on_the_way_does_not_stand_for_the_chains():
    rule = {**ESCALATE, "when": {"uncertainty": {"tokens": {"gt": 30}}}}
    up = guard(rule, PASS, **STRONG, targets={"strong": lambda case: "an answer to a step"})
    assert up.wrap(plan([SHORT_TEXT, LONG_TEXT])).invoke("Who?") == "an answer to a step"
    assert up.wrap(plan([LONG_TEXT, SHORT_TEXT])).invoke("Who?") == "I am not sure enough to answer that."


def test_while_a_person_decides_the_policys_message_stands_there(tmp_path):
    queue = HumanQueue(f"sqlite:///{tmp_path}/q.db")
    person = {"escalation": {"strong": {"queue": queue.url}}}
    assert guard(ESCALATE, **person).wrap(text_chain()).invoke(BOOK) == "Please wait."
    with pytest.raises(AbstainedError, match="Please wait"):
        guard(ESCALATE, **person, on_abstain="raise").wrap(text_chain()).invoke(BOOK)
    assert len([*queue.items()]) == 2


# Errors of the chain.


def test_an_error_before_any_answer_is_the_chains_own_and_can_be_retried():
    model = other_model(ConnectionError("down"), SAID)
    with pytest.raises(ConnectionError, match="down"):
        guard(ABSTAIN).wrap(PROMPT | model).invoke(BOOK)
    flaky = guard().wrap(text_chain(ConnectionError("down"), SAID))
    retried = flaky.with_retry(retry_if_exception_type=(ConnectionError,), wait_exponential_jitter=False)
    assert retried.invoke(BOOK) == SAID
    with pytest.raises(KeyError):
        guard().wrap(text_chain()).invoke({"film": "Metropolis"})


def test_an_error_that_may_quote_a_withheld_answer_is_not_raised():
    parsed = PROMPT | other_model() | PydanticOutputParser(pydantic_object=Book)
    with pytest.raises(OutputParserException, match=CANARY):
        guard(PASS).wrap(parsed).invoke(BOOK)
    for way in (lambda c: c.invoke(BOOK), lambda c: asyncio.run(c.ainvoke(BOOK))):
        with pytest.raises(AbstainedError, match="OutputParserException") as caught:
            way(guard(ABSTAIN).wrap(parsed))
        assert CANARY not in str(caught.value)
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)


# A runnable like another.


def test_a_stream_of_nothing_has_no_place_for_a_message():
    def answer(chunks):
        other_model().invoke(next(chunks))
        yield from ()

    with pytest.raises(AbstainedError, match="nothing"):
        list(guard(ABSTAIN).wrap(RunnableGenerator(answer)).stream("Who?"))
    assert list(guard(PASS).wrap(RunnableGenerator(answer)).stream("Who?")) == []


def test_schemas_config_and_graph_are_the_chains():
    chain = text_chain()
    guarded = guard().wrap(chain)
    assert guarded.input_schema.model_json_schema() == chain.input_schema.model_json_schema()
    assert guarded.output_schema.model_json_schema() == chain.output_schema.model_json_schema()
    assert (guarded.InputType, guarded.OutputType) == (chain.InputType, chain.OutputType)
    assert guarded.config_specs == chain.config_specs
    assert len(guarded.get_graph().nodes) == len(chain.get_graph().nodes)


def test_config_reaches_the_chain():
    seen = []

    def step(question, config):
        seen.append((config["tags"], config["metadata"]["who"], config["configurable"]["thread"]))
        return other_model().invoke(question).text

    config = {"tags": ["t"], "metadata": {"who": "me"}, "configurable": {"thread": 7}}
    guard().wrap(step).invoke("Who?", config)
    assert seen == [(["t"], "me", 7)]


def test_arguments_of_a_call_reach_the_chain():
    model = other_model(lambda asked: "yes")
    bound = guard().wrap(model).bind(stop=["x"])
    assert bound.invoke("Who?").content == "yes"


def test_a_batch_is_guarded_one_by_one():
    model = other_model(lambda asked: LONG_TEXT if "long" in asked[0].text else SHORT_TEXT)
    guarded = guard(LONG, PASS).wrap(model | StrOutputParser())
    asked, expected = ["a", "long", "b"], [SHORT_TEXT, "Too long.", SHORT_TEXT]
    assert guarded.batch(asked) == expected
    assert asyncio.run(guarded.abatch(asked)) == expected
    assert guarded.map().invoke(asked) == expected
    failing = guard(LONG, PASS, on_abstain="raise").wrap(model | StrOutputParser())
    first, failed, last = failing.batch(asked, return_exceptions=True)
    assert (first, type(failed), last) == (SHORT_TEXT, AbstainedError, SHORT_TEXT)


def test_a_wrapped_chain_is_a_part_like_another():
    chain = guard().wrap(text_chain()) | RunnableLambda(str.upper) | RunnableLambda(lambda text: text + "!")
    assert run_all(chain) == [f"{SAID.upper()}!"] * 4
    assert guard().wrap({"a": text_chain()}).invoke(BOOK) == {"a": SAID}


def test_tokens_of_a_withheld_answer_are_counted():
    for rule in (PASS, ABSTAIN):
        with get_usage_metadata_callback() as usage:
            guard(rule).wrap(text_chain()).invoke(BOOK)
        assert usage.usage_metadata["o"]["total_tokens"] == 5


# Making one.


def test_a_guard_is_made_of_a_files_name():
    assert UncertaintyGuard("builtin:strict").policy.name == "strict"
    with pytest.raises(PolicyError):
        UncertaintyGuard("nowhere.yaml")


def test_a_scorer_that_is_named_is_opened_at_once_and_otherwise_when_it_is_needed():
    with pytest.raises(Exception, match=r"no-such-model"):
        UncertaintyGuard("builtin:strict", "no-such-model")
    lazy = UncertaintyGuard("builtin:lenient")
    assert lazy.wrap(other_model(guarded_message("Goethe", by=lazy))).invoke("Who?").content == "Goethe"
    assert lazy._guard is None


def test_a_profile_of_another_model_is_refused_at_once(tmp_path):
    profile = profile_of()
    foreign = profile.model_copy(update={"model": replace(profile.model, dtype="bfloat16")})
    path = tmp_path / "p.json"
    write_profile(foreign, path)
    with pytest.raises(ForeignProfileError):
        UncertaintyGuard(policy_of(profile=str(path)).found_at(path), tiny())


def test_an_option_that_is_none_is_refused():
    with pytest.raises(OptionError, match="message or raise"):
        guard(on_abstain="shout")
