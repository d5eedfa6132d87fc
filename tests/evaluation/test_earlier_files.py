"""Files of answers and results that an earlier version wrote are read, and gone on with.

They were written by the revision before records became models of pydantic: by ``guardrail calibrate``,
``evaluate`` and ``score`` with the tiny chat model, on three questions.
"""

import json
import shutil
from pathlib import Path

import pytest

from guardrail.errors import OptionError
from guardrail.evaluation.evaluated_answers import parse_evaluated
from guardrail.evaluation.registry import methods_named
from guardrail.evaluation.requirements import (
    REMEDY,
    EvaluationOptions,
    collect_answers,
    needs_of,
    stored_answers,
)
from guardrail.evaluation.sampling_methods import sampled_methods
from guardrail.labelling.answers import holds_answers, read_answers
from guardrail.labelling.collection import collect, reuse
from guardrail.labelling.matching import ContainsJudge, ExactJudge
from guardrail.labelling.questions import LabelOptions, parse_questions
from guardrail.models.fingerprint import fingerprint_model
from guardrail.models.sampling import Sampling
from guardrail.scoring.bulk import provenance_of
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.records import read_lines, stored_results
from guardrail.utils.json_lines import read_json_lines
from guardrail.utils.record_store import RecordStore
from tests.support.chat import tiny_chat_model

EARLIER = Path(__file__).parents[1] / "data" / "earlier"
SAMPLING = Sampling(max_tokens=3)
METHODS = ["one_pass", "p_true", "mutual_information"]
MORE = '{"id": 4, "question": "Whose?", "answers": ["mine"]}'


@pytest.fixture(scope="module")
def model():
    return tiny_chat_model()


@pytest.fixture
def earlier(tmp_path, model):
    """Copies a file, as if its model had had the weights that random numbers give on this machine."""

    def copy(name):
        written = json.loads((EARLIER / "answers.jsonl").read_text().splitlines()[0])["scoring"]["model"]
        here = fingerprint_model(model).as_plain()
        path = Path(shutil.copy(EARLIER / name, tmp_path))
        text = path.read_text()
        for part in ("weights", "chat_template"):
            text = text.replace(written[part], here[part])
        path.write_text(text)
        return path

    return copy


def questions(*more):
    return parse_questions([*read_json_lines(EARLIER / "questions.jsonl"), *more])


def never():
    raise AssertionError("The model is opened, and nothing is missing.")


def plain_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_answers_are_read_and_written_again_to_the_letter():
    lines = plain_lines(EARLIER / "answers.jsonl")
    records = read_answers(EARLIER / "answers.jsonl").records
    assert [record.as_plain() for record in records] == lines
    assert [list(record.as_plain()) for record in records] == [list(line) for line in lines]
    assert holds_answers(read_json_lines(EARLIER / "answers.jsonl"))


def test_answers_are_gone_on_with_and_their_labels_stay(earlier, model, one_thread):
    path, options = earlier("answers.jsonl"), LabelOptions(sampling=SAMPLING)
    before = path.read_bytes()
    same = collect(questions(), None, path, never, options, model_name="tiny")
    assert (same.kept, same.judged_again, [one.correct for one in same.records]) == (
        3,
        0,
        [False, True, True],
    )
    assert path.read_bytes() == before
    more = collect(questions(MORE), None, path, lambda: model, options, model_name="tiny")
    assert (more.kept, len(more.records), more.exit_status) == (3, 4, 0)
    assert path.read_bytes().startswith(before)
    assert reuse(path, ExactJudge()).judged_again == 3


def test_results_are_read_and_written_again(earlier):
    for line in plain_lines(EARLIER / "evaluation.jsonl"):
        again = parse_evaluated(json.dumps(line)).as_plain()
        assert list(again) == list(line)
        for one in (again, line):
            for scored in one["scored"]:
                # Called "short" then.
                del scored["options"]["computation"], scored["computation"]
        assert again == line


def test_results_are_gone_on_with(earlier, model, one_thread):
    path = earlier("evaluation.jsonl")
    options = EvaluationOptions(SAMPLING, samples=2)
    sampled = sampled_methods(nli=None, cross_encoder=None)
    needs = needs_of(methods_named(METHODS, sampled), options)

    def run(asked, open_model, needs):
        with RecordStore(path, REMEDY) as store:
            kept = stored_answers(store, asked)
            return collect_answers(
                asked, ContainsJudge(), store, kept, open_model, needs, options, model_name="tiny"
            )

    same = run(questions(), never, needs)
    assert (same.kept, same.judged_again, [one.correct for one in same.records]) == (
        3,
        0,
        [False, True, True],
    )
    more = run(questions(MORE), lambda: model, needs)
    assert (more.kept, len(more.records), more.exit_status) == (3, 4, 0)
    added = needs_of(methods_named(["hybridgrad[norm=l2]"], sampled), options)
    assert [len(one.answered.scored) for one in run(questions(), lambda: model, added).records] == [3, 3, 3]


def test_scores_that_do_not_say_which_weights_made_them_are_refused_with_the_remedy(earlier, model):
    provenance = provenance_of(model, ScoringOptions())
    lines = read_lines(EARLIER / "questions.jsonl")
    refused = pytest.raises(OptionError, match=r"does not say what weights .* start afresh with --overwrite")
    with RecordStore(earlier("scores.jsonl"), "") as store, refused:
        stored_results(store, lines, provenance)
