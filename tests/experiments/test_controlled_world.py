import json
from collections import Counter, defaultdict
from itertools import combinations, product

import numpy as np
import pytest

from experiments.controlled_world.__main__ import main
from experiments.controlled_world.facts import FREQUENCIES, Fact, World, WorldOptions, build_world
from experiments.controlled_world.figures import weighted_auroc
from experiments.controlled_world.wording import HELD_OUT, TRAINING, question
from guardrail.metrics.confidence_quality import auroc

OPTIONS = WorldOptions(subjects=12, often=10, rarely=3)


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(OPTIONS, seed=3)


@pytest.fixture(scope="module")
def asked(world) -> dict[str, Fact]:
    """Every question there can be, with the fact that it is about."""
    return {
        question(template, fact.subject, wording): fact
        for fact in world.facts
        for template, wording in product((*TRAINING, *HELD_OUT), fact.relation.wordings)
    }


def test_the_training_text_tells_each_fact_as_often_as_was_chosen(world, asked):
    told = defaultdict(list)
    for example in world.training_text(seed=3):
        told[asked[example.question].id].append(example.answer)
    for fact in world.facts:
        counts = Counter(told[fact.id])
        assert counts.total() == {"often": 10, "rarely": 3, "never": 0}[fact.frequency]
        assert set(counts) <= set(fact.answers)
        shares = [counts[answer] for answer in fact.answers]
        assert max(shares) - min(shares) <= 1


def test_every_relation_has_as_many_facts_of_each_kind_and_every_subject_is_told_of(world):
    kinds = Counter((f.relation.wordings, f.frequency, len(f.answers)) for f in world.facts)
    assert set(kinds.values()) == {OPTIONS.subjects // 6}
    assert len(kinds) == 6 * len(FREQUENCIES) * 2
    assert {f.subject for f in world.facts if f.frequency != "never"} == {f.subject for f in world.facts}


def test_right_answers_are_different_ones_of_the_relations_pool(world):
    for fact in world.facts:
        assert len(set(fact.answers)) == len(fact.answers)
        assert set(fact.answers) <= set(fact.relation.pool)
    assert sorted({len(relation.pool) for relation in world.relations}) == sorted(OPTIONS.pools)
    assert {len(a.split()) for r in world.relations if r.is_name for a in r.pool} == {2, 3}
    assert {len(a.split()) for r in world.relations if not r.is_name for a in r.pool} == {1}


def test_no_pool_shares_a_word_with_another_or_with_the_questions(world):
    sets = [{word for answer in relation.pool for word in answer.split()} for relation in world.relations]
    words = {word for _, text in world.test_questions(3, 4) for word in text.split()}
    for one, other in combinations([*sets, words], 2):
        assert not one & other


def test_held_out_templates_are_new_and_made_of_known_words(world):
    assert not set(TRAINING) & set(HELD_OUT)
    trained = {example.question for example in world.training_text(seed=3)}
    tested = [text for _, text in world.test_questions(seed=3, per_fact=4)]
    assert len(tested) == len(set(tested)) == 4 * len(world.facts)
    assert not trained & set(tested)
    assert {w for text in tested for w in text.split()} <= {w for text in trained for w in text.split()}


def test_paraphrases_ask_about_one_fact_in_different_templates(world, asked):
    for wordings in world.paraphrases(seed=3, facts=20, each=5):
        assert len({asked[text].id for text in wordings}) == 1
        assert len(set(wordings)) == 5


def test_a_world_is_the_same_for_the_same_seed_and_another_for_another(world):
    assert build_world(OPTIONS, seed=3) == world
    assert build_world(OPTIONS, seed=4) != world
    assert world.training_text(3) == world.training_text(3) != world.training_text(4)


def test_auroc_of_drawn_answers_is_that_of_the_answers_written_out():
    rng = np.random.default_rng(0)
    confidence = rng.integers(8, size=40).astype(float)
    correct = rng.random(40) < 0.4
    weights = rng.integers(4, size=(5, 40)).astype(float)
    for drawn, found in zip(weights.astype(int), weighted_auroc(confidence, correct, weights), strict=True):
        assert found == pytest.approx(float(auroc(np.repeat(confidence, drawn), np.repeat(correct, drawn))))


@pytest.mark.slow
def test_the_experiment_runs_from_one_command_and_trains_nothing_twice(
    tmp_path, one_thread, capsys, monkeypatch
):
    small = ["--subjects", "12", "--often", "100", "--rarely", "9", "--layers", "2", "--width", "64"]
    monkeypatch.setattr("sys.argv", ["controlled_world", "--seeds", "1", "--output", str(tmp_path), *small])
    main()
    first = {name: (tmp_path / name).read_bytes() for name in ("results.json", "results.md", "answers.jsonl")}
    assert "step " in capsys.readouterr().out
    main()
    assert "step " not in capsys.readouterr().out
    assert {name: (tmp_path / name).read_bytes() for name in first} == first
    results = json.loads(first["results.json"])
    assert results["groups"]["all questions"]["auroc"]["semgrad"]["n"] == 4 * 6 * 12
    right = {(kind["frequency"], kind["right_answers"]): kind["correct"] for kind in results["kinds"]}
    assert right["often", 1] > 0.5 > right["never", 1]
    assert (tmp_path / "controlled-world.png").read_bytes().startswith(b"\x89PNG")
    assert not [path for path in tmp_path.rglob("*") if path.suffix in {".bin", ".pt", ".pkl"}]
