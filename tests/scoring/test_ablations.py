"""Each argument of a score is what plain autograd gives with that change to the definition."""

import pytest

from guardrail.models.sampling import Sampling
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.score import score, score_batch
from tests.support.agreement import assert_agrees, reference
from tests.support.tiny import some_ids, some_prompt, tiny_model

pytestmark = pytest.mark.usefixtures("exact")

# A plain head, a tied one, a soft-capped one, one with a bias, a scaled one; one needs the full backward.
FAMILIES = pytest.mark.parametrize("name", ["llama", "gemma3", "gemma2", "phi", "granite", "lfm2"])


@FAMILIES
@pytest.mark.parametrize(
    "change",
    [
        {"reduction": "mean"},
        {"norm": "l2"},
        {"entropy_weight": False},
        {"layers": "last"},
        {"layers": "lower"},
        {"layers": "all"},
        {"reduction": "mean", "norm": "l2", "entropy_weight": False, "layers": "all"},
    ],
    ids=str,
)
def test_an_ablation_is_what_autograd_gives(name, change):
    model = tiny_model(name)
    (trace,) = model.generate_encoded([some_prompt(17, seed=1)], Sampling(max_tokens=6))
    assert_agrees(score(model, trace, ScoringOptions(**change)), reference(trace, **change))


@pytest.mark.parametrize("name", ["llama-tied", "gemma3"])
@pytest.mark.parametrize("change", [{}, {"norm": "l2", "reduction": "mean"}], ids=str)
def test_a_tied_embedding_adds_what_autograd_on_the_shared_weight_adds(name, change):
    model = tiny_model(name)
    prompts = [some_prompt(13, seed=1), some_prompt(17, seed=2)]
    traces = model.read_encoded(prompts, [some_ids(6, seed=3), some_ids(3, seed=4)])
    options = ScoringOptions(include_tied_embedding=True, **change)
    for trace, found in zip(traces, score_batch(model, traces, options), strict=True):
        assert found.computation == "full"
        assert found.computation_reason
        assert_agrees(
            found, reference(trace, tied=True, **change), names=["paragrad", "semgrad", "hybridgrad"]
        )
        assert found.paragrad > 1.05 * reference(trace, **change).paragrad


def test_a_head_of_its_own_has_no_embedding_to_add():
    model = tiny_model("llama")
    (trace,) = model.read_encoded([some_prompt(13, seed=1)], [some_ids(6, seed=3)])
    assert_agrees(score(model, trace, ScoringOptions(include_tied_embedding=True)), reference(trace))


def test_exgrad_is_left_out_where_it_is_not_wanted():
    model = tiny_model("llama")
    (trace,) = model.read_encoded([some_prompt(13, seed=1)], [some_ids(6, seed=3)])
    found = score(model, trace, ScoringOptions(exgrad=False))
    assert found.exgrad is None
    assert "exgrad" not in found.scores()
    expected = reference(trace)
    assert_agrees(found, expected, names=["hybridgrad", "semgrad", "paragrad"])


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_the_sum_over_tokens_is_their_number_times_the_mean(name):
    model = tiny_model(name)
    (trace,) = model.read_encoded([some_prompt(13, seed=1)], [some_ids(6, seed=3)])
    total = score(model, trace, release=False)
    mean = score(model, trace, ScoringOptions(reduction="mean"))
    for part in ("semgrad", "paragrad", "exgrad", "hybridgrad"):
        assert getattr(total, part) == pytest.approx(6 * getattr(mean, part), rel=1e-12)
    assert [t.weight for t in total.tokens] == pytest.approx([6 * t.weight for t in mean.tokens])
