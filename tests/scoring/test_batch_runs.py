"""The one loop of batches, with work that needs no model but its context length."""

import pytest

from guardrail.errors import GenerationError, GuardrailError, PromptError, RecordError, ScoringError
from guardrail.scoring.batches import Encoded, Failure, exit_status_of, run_batches
from tests.support.chat import CONTEXT, tiny_chat_model
from tests.support.tiny import some_prompt

UNREADABLE, GUILTY = 3, 5


@pytest.fixture(scope="module")
def model():
    return tiny_chat_model()


@pytest.fixture
def run(model):
    """Runs items that are as long as their number, and keeps the batches that were worked on together."""

    def go(items, batch_size, *, given=True, **options):
        def encode(item):
            if item == UNREADABLE:
                raise PromptError("It cannot be read.")
            return Encoded(item, some_prompt(item, seed=item), [] if given else None)

        def work(jobs):
            if any(job.item == GUILTY for job in jobs):
                raise ScoringError("It cannot be scored.")
            go.batches.append([job.item for job in jobs])
            return [job.item * 10 for job in jobs]

        return run_batches(
            model, items, encode, work, list, batch_size=batch_size, stage="testing", **options
        )

    go.batches = []
    return go


def test_every_item_comes_out_once_with_its_own_result_or_its_own_error(run):
    outcomes = dict(run(list(range(20, 0, -1)), 4))
    assert set(outcomes) == set(range(1, 21))
    errors = {item for item, result in outcomes.items() if isinstance(result, GuardrailError)}
    assert errors == {UNREADABLE, GUILTY}
    assert all(result == item * 10 for item, result in outcomes.items() if item not in errors)


def test_batches_are_of_like_length_within_a_window_and_only_a_failed_one_is_split(run):
    list(run([9, 1, 8, 2, 7, 4, 6, 5], 2))
    assert run.batches == [[1, 2], [4], [6, 7], [8, 9]]


def test_items_without_room_for_an_answer_beside_others_go_alone(run):
    list(run([CONTEXT - 9, CONTEXT - 8, 1, 2], 4, given=False, max_tokens=10))
    assert run.batches == [[1, 2], [CONTEXT - 9], [CONTEXT - 8]]


def test_progress_is_told_after_each_batch_and_counts_what_was_done_before(run):
    told = []
    list(run([1, 2, 3, 4], 2, done=6, progress=lambda *told_now: told.append(told_now)))
    assert told == [("testing", done, 10) for done in (6, 7, 9, 10)]


def test_nothing_is_worked_on_before_it_is_asked_for(run):
    outcomes = run(list(range(6, 40)), 2)
    assert run.batches == []
    next(outcomes)
    assert run.batches == [[6, 7]]


@pytest.mark.parametrize(
    ("errors", "judge_failed", "status"),
    [
        ([], False, 0),
        ([RecordError("a"), PromptError("b")], False, 2),
        ([RecordError("a"), GenerationError("b")], False, 1),
        ([], True, 1),
        ([RecordError("a")], True, 1),
    ],
)
def test_the_exit_status_says_whether_only_lines_were_wrong(errors, judge_failed, status):
    failures = [Failure.of(line, error) for line, error in enumerate(errors, start=1)]
    assert exit_status_of(failures, something_else_failed=judge_failed) == status
