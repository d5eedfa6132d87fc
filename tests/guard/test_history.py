import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.escalation.case import Case
from guardrail.guard.history import notices_of, spoken
from tests.support.guards import ASKED, SHORT, guard_of, policy_of, profile_file

FLAG = {
    "id": "check",
    "action": "flag",
    "when": {"tags": ["doubtful"]},
    "message": "I am {confidence:.0%} sure.",
}
REST = {"id": "rest", "action": "abstain", "message": "Nobody knows enough to say."}
REFUSAL = REST["message"]
NOTICES = notices_of(policy_of(FLAG, REST))
SYSTEM = {"role": "system", "content": "Be brief."}
HARD = {"id": "hard", "when": {"tags": ["hard"]}, "action": "abstain", "message": REFUSAL}
PASS = {"id": "all", "action": "pass"}


def user(text="Who?"):
    return {"role": "user", "content": text}


def said(text="Goethe.", **fields):
    return {"role": "assistant", "content": text, **fields}


def calls(*ids, text="", **fields):
    made = [{"id": one, "type": "function", "function": {"name": "f", "arguments": {}}} for one in ids]
    return said(text, tool_calls=made, **fields)


def result(call=None, text="42"):
    return {"role": "tool", "content": text, **({"tool_call_id": call} if call else {})}


def verdict(action, enforced=True, **fields):
    return {
        "action": action,
        "rule": "r",
        "enforced": enforced,
        "message": None,
        "escalation": None,
        **fields,
    }


WITHHELD = verdict("abstain")
QUEUED = verdict("escalate", escalation={"source": None, "ticket": "t"})
ANSWERED = verdict("escalate", escalation={"source": "gpt", "ticket": None})


def left(*messages, notices=NOTICES):
    history = spoken(messages, notices)
    return history.messages


@pytest.mark.parametrize(
    "answer",
    [
        said(REFUSAL),
        said(f"**{REFUSAL.upper()}**"),
        said("I am not sure enough to answer that."),
        said("This answer could not be checked, so it is not shown."),
        said("The policy 'test' withheld the answer (abstain, by its rule 'rest': why). It says: No."),
        said("I am 37 % sure."),
        said([{"type": "text", "text": REFUSAL}]),
        said(None, refusal=REFUSAL),
        said("Anything.", uncertainty=WITHHELD),
        said("Anything.", uncertainty=QUEUED),
        said("Anything.", response_metadata={"uncertainty": WITHHELD}),
        said("Anything.", uncertainty={"action": "abstain"}),
        said("Anything.", uncertainty=verdict("pass"), response_metadata={"uncertainty": WITHHELD}),
        said(REFUSAL, uncertainty=verdict("pass")),
        said(REFUSAL, uncertainty=ANSWERED),
    ],
)
def test_a_withheld_answer_and_its_question_are_no_turn(answer):
    history = spoken([SYSTEM, user("When?"), answer, user()], NOTICES)
    assert history == ([SYSTEM, user()], [0, 3], 1)


@pytest.mark.parametrize(
    "answer",
    [
        said(),
        said("No."),
        said("Goethe.", uncertainty=verdict("pass")),
        said("Goethe.", uncertainty=verdict("abstain", enforced=False)),
        said("Goethe.", uncertainty=ANSWERED),
        said("Goethe.", uncertainty="abstain"),
        said("Goethe.", response_metadata={"model_name": "m"}),
    ],
)
def test_what_was_said_stays_and_no_template_reads_its_verdict(answer):
    kept = left(SYSTEM, user("When?"), answer, user())
    assert [one["role"] for one in kept] == ["system", "user", "assistant", "user"]
    assert kept[2]["content"] == answer["content"]
    assert "uncertainty" not in repr(kept)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (said("Goethe.\n\nI am 72 % sure."), "Goethe."),
        (said("Goethe.\n\nLook it {up}.", uncertainty=verdict("flag", message="Look it {up}.")), "Goethe."),
        (said("*I am 72% sure.*\n\nGoethe."), "Goethe."),
        (said([{"type": "text", "text": "Goethe."}, {"type": "text", "text": "I am 7% sure."}]), "Goethe."),
    ],
)
def test_a_warning_beside_an_answer_is_not_the_models(answer, text):
    _, kept, _ = left(user("When?"), answer, user())
    content = kept["content"]
    assert (content if isinstance(content, str) else content[0]["text"]) == text
    assert isinstance(content, str) or len(content) == 1


def test_a_call_that_was_withheld_takes_its_results_along():
    turn = [user("How many?"), calls("a", "b", uncertainty=WITHHELD), result("a"), result("b"), user()]
    assert left(*turn) == [user()]
    unnamed = [user("How many?"), calls(uncertainty=WITHHELD), result(), result(), user()]
    assert left(*unnamed) == [user()]


def test_a_turn_that_ends_without_an_answer_goes_with_its_calls():
    turn = [user("How many?"), calls("a", text="I look it up."), result("a"), said(REFUSAL), user()]
    assert left(*turn) == [user()]


def test_a_question_that_got_another_answer_stays_with_it():
    turn = [user("When?"), said(REFUSAL), said("In 1808."), user()]
    assert left(*turn) == [user("When?"), said("In 1808."), user()]


def test_what_waits_for_an_answer_is_never_left_out():
    now = [user(REFUSAL), calls("a"), result("a")]
    assert left(user("When?"), said(REFUSAL), *now) == now
    assert left(user(), said(REFUSAL)) == [user()]
    assert left(user(), calls("a", uncertainty=WITHHELD), result("a")) == [user()]


def test_system_messages_stay_wherever_they_stand():
    late = {"role": "system", "content": "Be kind."}
    developer = {"role": "developer", "content": "Be quick."}
    assert left(SYSTEM, developer, user("When?"), late, said(REFUSAL), user()) == [
        SYSTEM,
        developer,
        late,
        user(),
    ]


def test_nothing_is_left_out_for_a_policy_that_only_observes():
    asked = [user("When?"), said(REFUSAL, uncertainty=WITHHELD), user()]
    assert left(*asked, notices=None) == [user("When?"), said(REFUSAL), user()]
    guard = guard_of(HARD, PASS, mode="observe")
    assert guard.spoken(asked).turns_left_out == 0


@pytest.mark.parametrize("odd", [None, 3, "text", {}, {"role": 3}, said(None), said(7), said([None, 3])])
def test_what_is_no_message_is_left_for_the_prompt_to_refuse(odd):
    assert odd in left(user("When?"), said(REFUSAL), user("What?"), odd, user())


def test_roles_go_on_alternating_in_a_conversation_of_ten_turns():
    answers = [said(), said(REFUSAL), said("Goethe.\n\nI am 72% sure."), said("x", uncertainty=QUEUED)] * 3
    turns = [one for answer in answers[:10] for one in (user(), answer)]
    history = spoken([SYSTEM, *turns, user("And now?")], NOTICES)
    roles = [one["role"] for one in history.messages]
    assert roles == ["system", *["user", "assistant"] * 5, "user"]
    assert history.turns_left_out == 5


ANSWERS = st.sampled_from(
    [
        [said()],
        [said(REFUSAL)],
        [said("Goethe.\n\nI am 72% sure.")],
        [said("x", uncertainty=QUEUED)],
        [said("Goethe.", uncertainty=ANSWERED)],
        [calls("a"), result("a"), said()],
        [calls("a"), result("a"), said(REFUSAL)],
        [calls("a", "b", uncertainty=WITHHELD), result("b"), result("a")],
        [said(REFUSAL), said("In 1808.")],
    ]
)


@given(st.lists(ANSWERS, max_size=10), st.booleans())
def test_whatever_is_left_out_what_is_left_is_a_conversation(answers, with_system):
    asked = [SYSTEM] * with_system
    for answer in answers:
        asked += [user("When?"), *answer]
    history = spoken([*asked, user()], NOTICES)
    assert history.messages[-1] == user()
    assert (history.messages[0] == SYSTEM) is with_system
    roles = [one["role"] for one in history.messages if one["role"] not in ("system", "tool")]
    # A call is followed by the answer that was given by it.
    spoken_in_turn = [role for at, role in enumerate(roles) if role != "assistant" or roles[at - 1] != role]
    assert spoken_in_turn == ["user", "assistant"] * (len(spoken_in_turn) // 2) + ["user"]
    assert REFUSAL not in repr(history.messages)
    assert "sure" not in repr(history.messages)
    assert spoken(history.messages, NOTICES) == (history.messages, [*range(len(history.messages))], 0)


WAYS = {
    "ask": lambda guard, asked, **more: guard.ask(asked, SHORT, **more),
    "ask_batch": lambda guard, asked, **more: guard.ask_batch([asked], SHORT, **more)[0],
    "aask": lambda guard, asked, **more: asyncio.run(guard.aask(asked, SHORT, **more)),
    "aask_batch": lambda guard, asked, **more: asyncio.run(guard.aask_batch([asked], SHORT, **more))[0],
    "judge": lambda guard, asked, **more: guard.judge(asked, "Goethe.", **more),
    "judge_batch": lambda guard, asked, **more: guard.judge_batch([asked], ["Goethe."], **more)[0],
    "ajudge": lambda guard, asked, **more: asyncio.run(guard.ajudge(asked, "Goethe.", **more)),
    "ajudge_batch": lambda guard, asked, **more: asyncio.run(
        guard.ajudge_batch([asked], ["Goethe."], **more)
    )[0],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("with_verdicts", [True, False])
def test_after_ten_turns_the_model_is_asked_without_those_that_were_withheld(way, with_verdicts, one_thread):
    guard, whole, clean = guard_of(HARD, PASS), [SYSTEM], [SYSTEM]
    for number in range(10):
        is_hard = number % 2 == 1
        answer = guard.judge([*whole, user()], f"G{number}.", tags=["hard"] if is_hard else [])
        turn = [user(), said(answer.text)]
        assert answer.turns_left_out == number // 2
        whole += [user(), said(answer.text, uncertainty=answer.as_plain())] if with_verdicts else turn
        clean += [] if is_hard else turn
    last = WAYS[way](guard, [*whole, user("And?")])
    alone = WAYS[way](guard, [*clean, user("And?")])
    assert (last.turns_left_out, alone.turns_left_out) == (5, 0)
    assert last.usage == alone.usage
    assert last.draft == alone.draft
    assert last.uncertainty.hybridgrad == pytest.approx(alone.uncertainty.hybridgrad, rel=1e-6)


SURE = {"id": "sure", "when": {"certified": {"max_error": 0.1, "confidence": 0.9}}, "action": "pass"}
REPEATED = [REFUSAL, f"  {REFUSAL.lower()} ", f"“{REFUSAL}”", f"{REFUSAL} {REFUSAL}", "I am 99% sure."]


@pytest.mark.parametrize("answer", [*REPEATED, "I am not sure enough to answer that."])
def test_an_answer_that_repeats_a_message_is_an_abstention(answer, tmp_path, one_thread):
    guard = guard_of(FLAG, SURE, REST, profile=profile_file(tmp_path, intercept=3.0))
    assert guard.judge(ASKED, "Goethe.").action == "pass"
    judged = guard.judge(ASKED, answer)
    assert (judged.action, judged.rule, judged.is_withheld) == ("abstain", "own_message", True)
    assert judged.reason.startswith("the answer only repeats a message of the policy")
    assert (judged.text, judged.confidence, judged.guarantees) == (REFUSAL, None, None)
    assert judged.error == ""


def test_a_policy_that_withholds_nothing_withholds_a_repetition(one_thread):
    judged = guard_of(PASS).judge(ASKED, "I am not sure enough to answer that!")
    assert (judged.action, judged.text) == ("abstain", "I am not sure enough to answer that.")


def test_a_repetition_goes_where_the_policys_doubts_go(one_thread):
    asked = []

    def strong(case: Case) -> str:
        asked.append(case)
        return "Goethe wrote it."

    up = {"id": "up", "action": "escalate", "to": "strong", "message": REFUSAL}
    guard = guard_of(up, targets={"strong": strong}, escalation={"strong": {"callable": "a:b"}})
    judged = guard.judge([user("When?"), said(REFUSAL), user()], REFUSAL)
    assert (judged.action, judged.text, judged.rule) == ("escalate", "Goethe wrote it.", "own_message")
    assert [*asked[0].messages] == [user()]


def test_observing_a_repetition_changes_nothing(one_thread):
    judged = guard_of(FLAG, REST, mode="observe").judge(ASKED, REFUSAL)
    assert (judged.text, judged.action, judged.enforced) == (REFUSAL, "abstain", False)


def test_a_real_answer_that_holds_a_short_message_is_shown(one_thread):
    guard = guard_of({**HARD, "message": "No."}, PASS)
    assert guard.judge(ASKED, "No. It was Marlowe, a century before.").action == "pass"
    assert guard.judge(ASKED, "No.").action == "abstain"
