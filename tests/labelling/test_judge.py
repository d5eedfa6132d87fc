import threading

import pytest

from guardrail.labelling.answers import Judgement
from guardrail.labelling.judge import AnswerToJudge, Ruling, judge_answer, judge_answers
from guardrail.labelling.judges import as_judge
from guardrail.labelling.matching import ContainsJudge


def raising(*_):
    raise TimeoutError("no answer\nwithin 5 s")


def test_a_judge_that_raises_leaves_the_answer_without_a_label():
    judgement = judge_answer(as_judge(raising), AnswerToJudge("?", "x", ["x"]))
    assert (judgement.correct, judgement.failed) == (None, True)
    assert judgement.reason == "The judge failed. TimeoutError: no answer within 5 s"


@pytest.mark.parametrize("said", [True, None, "CORRECT", Ruling("yes"), Ruling(1)])
def test_what_is_no_verdict_is_a_failure_of_the_judge(said):
    class Odd:
        name, needs_answers, at_once = "odd", False, 1

        def __call__(self, question, response, accepted):
            return said

    assert judge_answer(Odd(), AnswerToJudge("?", "x", ["x"])).failed


def test_a_label_needs_no_judge_and_an_empty_answer_is_wrong():
    assert judge_answer(as_judge(raising), AnswerToJudge("?", "x", [], label=True)) == Judgement(
        True, "labelled"
    )
    assert judge_answer(as_judge(lambda *_: True), AnswerToJudge("?", " \n", ["x"])).correct is False


def test_where_nothing_says_what_is_right_nobody_is_asked():
    assert judge_answer(ContainsJudge(), AnswerToJudge("?", "x", [])) == Judgement(None, None)
    assert judge_answer(as_judge(lambda *_: True), AnswerToJudge("?", "x", [])).correct is True


def test_a_judge_is_asked_as_often_at_once_as_it_allows_and_the_order_stays():
    together = threading.Barrier(4, timeout=10)

    class Slow:
        name, needs_answers, at_once = "slow", True, 4

        def __call__(self, question, response, accepted):
            together.wait()
            return Ruling(response == "right", question)

    cases = [AnswerToJudge(str(at), "right" if at % 3 else "wrong", ["x"]) for at in range(8)]
    judged = judge_answers(Slow(), cases)
    assert [(one.reason, one.correct) for one in judged] == [(str(at), bool(at % 3)) for at in range(8)]
