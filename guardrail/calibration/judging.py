"""Asking a judge, whatever it does."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from guardrail.calibration.answers import LABELLED, Judgement
from guardrail.calibration.judges.judge import Judge, Verdict
from guardrail.models.reasoning import answer_of

__all__ = ["Case", "judge_case", "judge_cases"]

_SHOWN = 200


class Case(NamedTuple):
    """An answer to be judged.

    Attributes:
        question: What was asked.
        response: What was answered; what was thought before is not judged.
        accepted: Answers that are right.
        label: Whether it is right, where that is known.
    """

    question: str
    response: str
    accepted: Sequence[str]
    label: bool | None = None


def judge_cases(judge: Judge, cases: Sequence[Case]) -> list[Judgement]:
    """Judge several answers, as many at once as the judge allows."""
    return _each(lambda case: judge_case(judge, case), cases, judge.at_once)


def judge_case(judge: Judge, case: Case) -> Judgement:
    """Judge one answer. A judge that raises leaves it without a label, and so does one that says neither."""
    if case.label is not None:
        return Judgement(case.label, LABELLED)
    if not case.accepted and judge.needs_answers:
        return Judgement(None, None)
    answer = answer_of(case.response)
    if not answer.strip():
        why = "The response is nothing but reasoning." if case.response.strip() else "The answer is empty."
        return Judgement(False, judge.name, why)
    try:
        verdict = judge(case.question, answer, case.accepted)
        _check(verdict)
    # A judge may be anybody's code, or a service that is down.
    except Exception as error:  # noqa: BLE001
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:_SHOWN]
        return Judgement(None, judge.name, f"The judge failed. {reason}", failed=True)
    return Judgement(verdict.correct, judge.name, verdict.reason)


def _each(work: Callable[[Case], Judgement], cases: Sequence[Case], at_once: int) -> list[Judgement]:
    if at_once <= 1 or len(cases) <= 1:
        return [work(case) for case in cases]
    with ThreadPoolExecutor(at_once, thread_name_prefix="guardrail-judge") as pool:
        return list(pool.map(work, cases))


def _check(verdict: Verdict) -> None:
    if not isinstance(verdict, Verdict) or not (verdict.correct is None or isinstance(verdict.correct, bool)):
        raise TypeError(f"it returned {verdict!r:.60}, and a Verdict of True, False or None is expected")
