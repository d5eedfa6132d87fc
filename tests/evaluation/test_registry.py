import pytest

from guardrail.errors import OptionError
from guardrail.evaluation.methods import Method, ablations, one_pass_methods
from guardrail.evaluation.registry import methods_named
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.score import score_batch
from tests.support.chat import tiny_chat_model
from tests.support.evaluated import answered

SAMPLED = {"sar": Method("sar", "SAR", "a paper", lambda answers: [0.0] * len(answers))}


def named(*names):
    return [method.name for method in methods_named(names, SAMPLED)]


def test_commas_within_brackets_part_arguments_and_those_without_part_names():
    assert named("length,hybridgrad[semantic_token=-5,reduction=mean],sar") == [
        "length",
        "hybridgrad[reduction=mean,semantic_token=-5]",
        "sar",
    ]


def test_groups_hold_their_methods_and_each_counts_once():
    assert named("one_pass") == [*one_pass_methods()]
    assert named("semgrad", "ablations") == ["semgrad", "hybridgrad", "paragrad", *ablations()]
    assert named("all", "sampling", "length") == [*one_pass_methods(), *ablations(), "sar"]


def test_every_ablation_can_be_asked_for_by_its_name():
    assert named(*ablations()) == [*ablations()]
    assert {len(method.options) for method in ablations().values()} == {1}


def test_gradients_that_name_no_token_are_taken_where_it_is_said():
    names = ["hybridgrad", "paragrad", "semgrad[norm=l2]", "semgrad[semantic_token=-1]"]
    methods = methods_named(names, {}, token=-5)
    assert [method.name for method in methods] == names
    assert [method.options[0].semantic_token for method in methods] == [-5, -5, -5, -1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hybridgard", "did you mean 'hybridgrad'"),
        ("hybridgard[norm=l2]", "did you mean 'hybridgrad'"),
        ("length[norm=l2]", "length takes no arguments"),
        ("hybridgrad[nrom=l2]", "no argument 'nrom'; did you mean 'norm'"),
        ("paragrad[layers=last]", "paragrad has no argument 'layers'"),
        ("exgrad[entropy_weight=false]", "exgrad has no argument 'entropy_weight'"),
        ("hybridgrad[norm=l3]", "norm is 'l3'; it can be l1 or l2"),
        ("hybridgrad[semantic_token=last]", "a position such as -4"),
        ("hybridgrad[semantic_token=4]", "counts from the end"),
        ("hybridgrad[entropy_weight=no]", "true or false"),
        ("hybridgrad[norm]", "name=value"),
        ("confidence", "--profile"),
    ],
)
def test_what_there_is_not_is_refused_by_name(name, message):
    with pytest.raises(OptionError, match=message.replace("[", r"\[")):
        named(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("log_likelihood", 2.0),
        ("perplexity", 1.0),
        ("mean_entropy", 1.5),
        ("max_entropy", 2.0),
        ("sum_entropy", 3.0),
        ("min_token_probability", 1.5),
        ("length", 2),
    ],
)
def test_what_tokens_tell_goes_up_with_uncertainty(name, value):
    (method,) = methods_named([name], {})
    assert list(method.estimate([answered()])) == [value]


@pytest.mark.parametrize("name", ["hybridgrad", "semgrad", "paragrad", "exgrad"])
def test_a_mean_without_a_pass_of_its_own_is_what_the_pass_gives(one_thread, name):
    model = tiny_chat_model()
    traces = [model.read("Why?", "abc"), model.read("What is it?", "It is not so.")]
    plain, averaged = methods_named([name, f"{name}[reduction=mean]"], {})
    assert plain.options == averaged.options
    (way,) = plain.options
    answers = [
        answered(entropies=trace.entropies, log_probabilities=trace.log_probabilities, scored={way: scored})
        for trace, scored in zip(traces, score_batch(model, traces, way), strict=True)
    ]
    direct = score_batch(model, traces, ScoringOptions(reduction="mean"))
    assert averaged.estimate(answers) == pytest.approx([getattr(one, name) for one in direct], rel=1e-4)
