"""Judges of answers, and how they are asked: a judge that fails leaves the answer unlabelled."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

from guardrail.labelling.answers import LABELLED, Judgement
from guardrail.models.reasoning import answer_of
from guardrail.utils.threads import ProgressCallback, report

__all__ = ["AnswerToJudge", "Judge", "Ruling", "judge_again", "judge_answer", "judge_answers"]


class Ruling(NamedTuple):
    """A judge's decision on one answer.

    Attributes:
        correct: Whether it is right; None if the judge cannot tell. The answer then does not count.
        reason: Why, for a person to read.
    """

    correct: bool | None
    reason: str = ""


class Judge(Protocol):
    """Decides whether a response answers a question correctly.

    It may raise; the answer then stays unlabelled.
    """

    @property
    def name(self) -> str:
        """Its name in records and profiles."""

    @property
    def needs_answers(self) -> bool:
        """Whether it cannot judge without accepted answers."""

    @property
    def at_once(self) -> int:
        """How many answers it may be asked about at the same time, on several threads."""

    def __call__(self, question: str, response: str, accepted: Sequence[str]) -> Ruling:
        """Judge one answer.

        Args:
            question: What was asked; for a conversation, its transcript, whose last message
                :func:`guardrail.labelling.questions.last_asked` returns.
            response: What the model said, which may be anything, even addressed to the judge. Reasoning
                before the answer is not part of it: :func:`guardrail.models.reasoning.answer_of` removes it.
            accepted: Correct answers, any of which will do.
        """


# Characters of what a judge failed with that a record keeps.
_SHOWN = 200
# Answers judged again between two reports of progress.
_JUDGED_AT_ONCE = 32


class AnswerToJudge(NamedTuple):
    """An answer to be judged.

    Attributes:
        question: What was asked.
        response: What was answered; reasoning before the answer is not judged.
        accepted: Correct answers.
        label: Whether the answer is right, if that is known already.
    """

    question: str
    response: str
    accepted: Sequence[str]
    label: bool | None = None


def judge_answers(judge: Judge, cases: Sequence[AnswerToJudge]) -> list[Judgement]:
    """Judge several answers, as many at the same time as the judge allows."""
    return _each(lambda case: judge_answer(judge, case), cases, judge.at_once)


def judge_again(
    judge: Judge, cases: Sequence[AnswerToJudge], progress: ProgressCallback | None
) -> list[Judgement]:
    """Judge answers that were stored before.

    Args:
        judge: The judge.
        cases: The answers.
        progress: Told before each few of them.
    """
    judgements: list[Judgement] = []
    for first in range(0, len(cases), _JUDGED_AT_ONCE):
        report(progress, "judging again", first, len(cases))
        judgements += judge_answers(judge, cases[first : first + _JUDGED_AT_ONCE])
    return judgements


def judge_answer(judge: Judge, case: AnswerToJudge) -> Judgement:
    """Judge one answer. It stays unlabelled if the judge raises or cannot tell."""
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


def _each(
    work: Callable[[AnswerToJudge], Judgement], cases: Sequence[AnswerToJudge], at_once: int
) -> list[Judgement]:
    if at_once <= 1 or len(cases) <= 1:
        return [work(case) for case in cases]
    with ThreadPoolExecutor(at_once, thread_name_prefix="guardrail-judge") as pool:
        return list(pool.map(work, cases))


def _check(verdict: Ruling) -> None:
    if not isinstance(verdict, Ruling) or not (verdict.correct is None or isinstance(verdict.correct, bool)):
        raise TypeError(f"it returned {verdict!r:.60}, and a Ruling of True, False or None is expected")
