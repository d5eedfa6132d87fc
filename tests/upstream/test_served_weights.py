"""An answer is the local model's own only where the server's log-probabilities are those of its weights."""

import copy

import pytest
import torch

from guardrail.calibration.profile import write_profile
from guardrail.guard.external_generation import largest_difference
from guardrail.models.local import LocalModel
from guardrail.models.sampling import Sampling
from guardrail.upstream.chat_endpoint import ChatEndpoint
from guardrail.upstream.upstream_guard import UpstreamGuard
from tests.support.chat import tiny_chat
from tests.support.guards import ASKED, PASS, policy_of, profile_file, profile_of, tiny
from tests.support.upstream import inference_server

pytestmark = pytest.mark.usefixtures("one_thread")

SOME = Sampling(max_tokens=12)
DRAWN = Sampling(max_tokens=12, temperature=0.7, seed=3)
SURE = {"id": "sure", "when": {"confidence": {"gte": 0.5}}, "action": "pass"}
NO = {"id": "no", "action": "abstain", "message": "No."}


def changed(change):
    """The tiny model with every matrix changed."""
    model, tokenizer = tiny_chat()
    model = copy.deepcopy(tiny().model)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(5)
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.copy_(change(weight))
    return LocalModel(model, tokenizer, "tiny")


def int8(weight):
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    return (weight / scale).round() * scale


WEIGHTS = {
    "bfloat16": lambda weight: weight.bfloat16().float(),
    "int8": int8,
    "fine-tuned a little": lambda weight: weight + 0.01 * weight.std() * torch.randn_like(weight),
    "another": lambda weight: weight[:, torch.randperm(weight.shape[1])],
}


def guard_at(server, folder, *rules, weights="same", model=None, **fields):
    path = profile_file(folder, intercept=2.0)
    policy = policy_of(*(rules or (SURE, NO)), **{**fields, "profile": str(path)}).found_at(path)
    return UpstreamGuard(policy, model or tiny(), ChatEndpoint(server.url, timeout=20), weights=weights)


@pytest.mark.parametrize("sampling", [SOME, DRAWN], ids=["greedy", "drawn"])
def test_the_same_weights_agree_and_the_profile_holds(tmp_path, sampling):
    with inference_server(tiny()) as server:
        guard = guard_at(server, tmp_path)
        answer = guard.ask(ASKED, sampling)
        read = guard.judge(ASKED, server.model.generate(ASKED, sampling).response_ids)
    assert answer.generated_by["weights"] == "verified"
    assert answer.generated_by["log_probability_difference"] < largest_difference("torch.float32") / 10
    assert (answer.action, answer.answered_by, answer.outside_domain) == ("pass", "tiny", "")
    assert answer.text == read.text
    assert answer.uncertainty.scores() == read.uncertainty.scores()
    assert answer.confidence == read.confidence


@pytest.mark.parametrize("kind", WEIGHTS)
def test_other_weights_under_the_same_name_are_somebody_elses(tmp_path, kind):
    with inference_server(changed(WEIGHTS[kind])) as server:
        answer = guard_at(server, tmp_path).ask(ASKED, SOME)
    assert answer.generated_by["weights"] == "foreign"
    assert answer.generated_by["log_probability_difference"] > largest_difference("torch.float32")
    assert (answer.action, answer.rule, answer.confidence) == ("abstain", "on_outside_domain", None)
    assert "log-probabilities differ" in answer.outside_domain
    assert answer.guarantees is None


def test_without_log_probabilities_the_declaration_stands_and_the_verdict_says_so(tmp_path):
    with inference_server(changed(WEIGHTS["another"]), knows=["return_token_ids"]) as server:
        answer = guard_at(server, tmp_path).ask(ASKED, SOME)
    assert answer.generated_by == {
        "model": "tiny",
        "read_by": "token_ids",
        "weights": "declared",
        "log_probability_difference": None,
    }
    assert answer.confidence is not None


@pytest.mark.parametrize(
    ("weights", "name", "why"),
    [(None, "tiny", "nobody declares"), ("their model", "their model", "profile is for")],
)
def test_weights_that_are_not_declared_the_same_are_not(tmp_path, weights, name, why):
    with inference_server(tiny()) as server:
        answer = guard_at(server, tmp_path, weights=weights).ask(ASKED, SOME)
    assert (answer.generated_by["weights"], answer.answered_by) == ("foreign", name)
    assert (answer.confidence, answer.rule) == (None, "on_outside_domain")
    assert why in answer.outside_domain


@pytest.mark.parametrize("knows", [["return_token_ids"], ["return_token_ids", "logprobs"]])
def test_another_prompt_makes_a_foreign_answer(tmp_path, knows):
    with inference_server(tiny(), knows=knows) as server:
        server.changes["prompt_ids"] = [20, 21]
        answer = guard_at(server, tmp_path).ask(ASKED, SOME)
    assert answer.generated_by["weights"] == "foreign"
    assert "another prompt" in answer.outside_domain
    assert answer.confidence is None


def test_log_probabilities_of_other_tokens_agree_with_nothing(tmp_path):
    with inference_server(tiny()) as server:
        server.changes["logprobs"] = [-1.0]
        answer = guard_at(server, tmp_path).ask(ASKED, SOME)
    assert answer.generated_by["weights"] == "foreign"
    assert answer.confidence is None


def test_a_server_that_says_another_model_answered_is_believed(tmp_path):
    with inference_server(tiny()) as server:
        server.changes["model"] = "a router's choice"
        answer = guard_at(server, tmp_path).ask(ASKED, SOME)
    assert answer.generated_by["weights"] == "foreign"
    assert "another model answered" in answer.outside_domain


@pytest.mark.parametrize("by", ["tiny", "a router's choice"])
def test_so_is_one_that_says_so_of_a_model_whose_profile_there_is(tmp_path, by):
    path = tmp_path / "profile.json"
    write_profile(profile_of(intercept=2.0).model_copy(update={"answered_by": "their model"}), path)
    policy = policy_of(SURE, NO, profile=str(path)).found_at(path)
    with inference_server(tiny()) as server:
        server.changes["model"] = by
        upstream = ChatEndpoint(server.url, timeout=20)
        answer = UpstreamGuard(policy, tiny(), upstream, weights="their model").ask(ASKED, SOME)
    assert (answer.confidence is not None) == (by == "tiny")
    assert ("another model answered" in answer.outside_domain) == (by != "tiny")


def test_by_text_where_the_server_has_no_ids(tmp_path):
    with inference_server(tiny(), knows=["logprobs"], refuses=["return_token_ids"]) as server:
        server.changes |= {"content": "Goethe wrote it.", "logprobs": read_by_tiny("Goethe wrote it.")}
        server.changes["finish_reason"] = "length"
        guard = guard_at(server, tmp_path)
        answer = guard.ask(ASKED, Sampling(max_tokens=30))
    assert answer.generated_by["read_by"] == "text"
    assert answer.text == "Goethe wrote it."
    assert answer.generated_by["weights"] == "verified"


def read_by_tiny(text):
    trace = tiny().read(ASKED, text, finish_reason="length")
    trace.release()
    return trace.log_probabilities


def test_temperature_and_top_p_that_the_profile_does_not_cover_are_outside(tmp_path):
    path = profile_file(tmp_path, intercept=2.0, generation={"temperature": 0.0, "top_p": 1.0})
    policy = policy_of(SURE, NO, profile=str(path)).found_at(path)
    with inference_server(tiny()) as server:
        guard = UpstreamGuard(policy, tiny(), ChatEndpoint(server.url), weights="same")
        assert guard.ask(ASKED, SOME).action == "pass"
        warm = guard.ask(ASKED, Sampling(max_tokens=12, temperature=0.7, top_p=0.9, seed=1))
    assert warm.rule == "on_outside_domain"
    assert set(warm.domain) == {"temperature", "top_p"}


def test_a_policy_without_conditions_passes_what_is_somebody_elses_by_its_own_words(tmp_path):
    with inference_server(tiny()) as server:
        answer = guard_at(server, tmp_path, PASS, weights=None).ask(ASKED, SOME)
    assert (answer.action, answer.confidence) == ("pass", None)
