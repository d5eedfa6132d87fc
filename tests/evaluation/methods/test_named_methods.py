import pytest

from guardrail.errors import OptionError
from guardrail.evaluation.methods.method import Method
from guardrail.evaluation.methods.named import methods_named
from guardrail.evaluation.methods.one_pass import ABLATIONS, ONE_PASS
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.score import score_batch
from tests.chat import tiny_chat_model
from tests.evaluation.answered import answered

SAMPLED = {"sar": Method("sar", "SAR", "a paper", lambda answers: [0.0] * len(answers))}


def named(*names):
    return [method.name for method in methods_named(names, SAMPLED)]


def test_commas_within_brackets_part_arguments_and_those_without_part_names():
    assert named("length,hybridgrad[semantic_token=-5,reduction=sum],sar") == [
        "length",
        "hybridgrad[reduction=sum,semantic_token=-5]",
        "sar",
    ]


def test_groups_hold_their_methods_and_each_counts_once():
    assert named("one_pass") == [*ONE_PASS]
    assert named("hybridgrad", "ablations") == ["hybridgrad", "semgrad", *ABLATIONS]
    assert named("all", "sampling", "length") == [*ONE_PASS, *ABLATIONS, "sar"]


def test_every_ablation_can_be_asked_for_by_its_name():
    assert named(*ABLATIONS) == [*ABLATIONS]
    assert {len(method.options) for method in ABLATIONS.values()} == {1}


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
def test_a_sum_without_a_pass_of_its_own_is_what_the_pass_gives(one_thread, name):
    model = tiny_chat_model()
    traces = [model.read("Why?", "abc"), model.read("What is it?", "It is not so.")]
    plain, summed = methods_named([name, f"{name}[reduction=sum]"], {})
    assert plain.options == summed.options
    (way,) = plain.options
    answers = [
        answered(entropies=trace.entropies, log_probabilities=trace.log_probabilities, scored={way: scored})
        for trace, scored in zip(traces, score_batch(model, traces, way), strict=True)
    ]
    direct = score_batch(model, traces, ScoringOptions(reduction="sum"))
    assert summed.estimate(answers) == pytest.approx([getattr(one, name) for one in direct], rel=1e-4)
