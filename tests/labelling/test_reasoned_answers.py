"""Answers that were reasoned before they were given: what is judged, scored, kept and learned of them."""

import pytest

from guardrail.guard import Guard
from guardrail.labelling.answering import label
from guardrail.labelling.answers import parse_answer
from guardrail.labelling.judge import AnswerToJudge, judge_answer, judge_answers
from guardrail.labelling.judges import ChatJudge, as_judge
from guardrail.labelling.questions import LabelOptions, parse_questions
from guardrail.models.sampling import Sampling
from guardrail.utils.json_lines import as_json
from tests.support.chat import tiny_chat_model
from tests.support.guards import PASS, policy_of, profile_file
from tests.support.profiles import EVERYTHING
from tests.support.reasoning import THOUGHT, UNENDED, family, saying

pytestmark = pytest.mark.usefixtures("one_thread")

CAPITAL = "What is the capital of Australia?"
HUNDRED_AND_TWENTY = [
    AnswerToJudge(
        CAPITAL,
        f"<think>Canberra, or Sydney? {at}</think> {'Canberra' if at % 2 else 'Sydney'}",
        ["Canberra"],
    )
    for at in range(120)
]


def says_canberra(question, response, accepted):
    assert "think" not in response
    return "Canberra" in response


class Grader:
    """A chat model that reads what it is to grade."""

    def invoke(self, messages):
        data = messages[-1][1]
        assert "or Sydney?" not in data
        return "CORRECT" if '"response": "Canberra"' in data else "INCORRECT"


@pytest.mark.parametrize("judge", ["exact", "contains", "f1", says_canberra, ChatJudge(Grader(), "grader")])
def test_every_judge_sees_the_answer_alone(judge):
    judgements = judge_answers(as_judge(judge), HUNDRED_AND_TWENTY)
    assert [one.correct for one in judgements] == [bool(at % 2) for at in range(120)]


@pytest.mark.parametrize("judge", ["exact", "contains", "f1", says_canberra])
def test_a_judge_that_is_asked_by_itself_sees_the_answer_alone(judge):
    asked = as_judge(judge)
    assert asked(CAPITAL, "<think></think> Canberra.", ["Canberra"]).correct
    assert asked(CAPITAL, "Sydney? No.</think>Canberra", ["Canberra"]).correct
    assert not asked(CAPITAL, "[THINK]Canberra[/THINK]Sydney", ["Canberra"]).correct


@pytest.mark.parametrize("response", ["<think>Canberra", "[THINK]Canberra", "<think>Canberra</think>"])
@pytest.mark.parametrize("judge", ["exact", "contains", "f1", says_canberra])
def test_what_is_cut_off_in_its_reasoning_is_never_right(judge, response):
    assert judge_answer(as_judge(judge), AnswerToJudge(CAPITAL, response, ["Canberra"])).correct is False
    assert not as_judge(judge)(CAPITAL, response.replace("think", "THINK"), ["Canberra"]).correct


def labelled(model, lines, judge="contains"):
    questions, refused = parse_questions(map(as_json, lines), judge_needs_answers=False)
    assert not refused
    options = LabelOptions(sampling=Sampling(max_tokens=4), depth=0.5)
    return {one.fields["id"]: one for one in label(model, questions, as_judge(judge), options)}


def test_given_responses_are_labelled_and_scored_by_their_answers():
    model = tiny_chat_model()

    def asked(at):
        return {"question": f"{CAPITAL} ({at})", "answers": ["Canberra"]}

    records = labelled(
        model,
        [
            {"id": 0, **asked(0), "response": "<think>Canberra</think> Sydney"},
            {"id": 1, **asked(1), "response": "<think>Sydney</think> Canberra"},
            {"id": 2, **asked(2), "response": "<think>Canberra"},
            {"id": 3, "question": "Which city?", "response": "<think>Canberra", "correct": True},
            {"id": 4, **asked(4), "response": "Canberra"},
        ],
    )
    assert [records[at].correct for at in range(5)] == [False, True, None, None, True]
    assert [records[at].response for at in range(5)] == ["Sydney", "Canberra", "", "", "Canberra"]
    assert records[2].finish_reason == records[3].finish_reason == "reasoning_length"
    assert (records[2].labelled(), records[3].labelled()) == (None, None)
    assert records[1].observation.scores["tokens"] == records[4].observation.scores["tokens"]
    for record in records.values():
        assert parse_answer(as_json(record.as_plain())).as_plain() == record.as_plain()


def test_a_profile_of_answers_with_reasoning_is_none_for_answers_without_and_the_reverse(tmp_path):
    model = family("qwen3")
    for reasoned, text, holds in (
        ({"no": 120}, "It is 4.<|im_end|>", True),
        ({"no": 120}, THOUGHT["qwen3"], False),
        ({"yes": 120}, THOUGHT["qwen3"], True),
        ({"yes": 120}, "It is 4.<|im_end|>", False),
        ({"yes": 60, "no": 60}, "It is 4.<|im_end|>", True),
    ):
        domain = EVERYTHING.model_copy(update={"reasoning": reasoned})
        path = profile_file(tmp_path, model=model, domain=domain)
        policy = policy_of(PASS, profile=str(path)).found_at(path)
        answer = Guard(policy, model).ask("Hi?", Sampling(max_tokens=40), controls=saying(model, text))
        assert (answer.confidence is not None) == holds
        assert (answer.guarantees is not None) == holds


def test_a_response_that_is_nothing_but_reasoning_is_withheld_where_it_is_judged():
    model = family("qwen3")
    guard = Guard(policy_of(PASS), model)
    for response in ("<think>It is 4.", model.tokenizer(UNENDED["qwen3"])["input_ids"]):
        answer = guard.judge("What is 2 + 2?", response)
        assert (answer.action, answer.rule, answer.finish_reason) == (
            "abstain",
            "on_error",
            "reasoning_length",
        )
        assert answer.draft == ""
    answer = guard.judge("What is 2 + 2?", "<think>Hm.</think>\n\nIt is 4.")
    assert (answer.action, answer.text, answer.reasoning) == ("pass", "It is 4.", "Hm.")
