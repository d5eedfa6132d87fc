"""Outputs of linear maps are used again only where they are surely what a replay would compute."""

import weakref

import pytest
import torch
from torch import nn

from guardrail.models.replay import caches as outputs
from guardrail.models.replay import replay as linears
from guardrail.models.replay.caches import CachedOutputs
from guardrail.models.replay.replay import linear_maps, remembered, watched


@pytest.fixture(autouse=True)
def small_weights(monkeypatch):
    monkeypatch.setattr(linears, "SMALLEST_WEIGHT_BYTES", 0)


STATES = [torch.randn(2, 5, 8), torch.randn(2, 1, 8), torch.randn(2, 1, 8)]


def watch(run, maps, tail=3):
    kept = CachedOutputs(maps, tail)
    with torch.no_grad(), watched(maps, kept):
        for states in STATES:
            run(states)
            kept.end_pass()
    return kept.joined([states[:, -tail:] for states in STATES], 2)


def test_outputs_are_joined_along_time_as_far_as_they_are_wanted():
    one, other = nn.Linear(8, 6), nn.Linear(6, 4, bias=False)
    found = watch(lambda states: other(one(states)), [one, other])
    expected = one(torch.cat([STATES[0][:, -3:], STATES[1]], dim=1))
    torch.testing.assert_close(found[one], expected)
    torch.testing.assert_close(found[other], other(expected))


def test_maps_that_are_not_called_once_with_every_position_are_left_out():
    twice, flat, never, once, chosen = (nn.Linear(8, 8) for _ in range(5))

    def run(states):
        twice(twice(states))
        flat(states.flatten(0, 1))
        chosen(states[:1])
        once(states)

    found = watch(run, [twice, flat, never, once, chosen])
    assert list(found) == [once]


def test_maps_that_take_turns_are_left_out():
    one, other = nn.Linear(8, 8), nn.Linear(8, 8)
    turns = iter([(one, other), (other, one), (one, one)])

    def run(states):
        for module in next(turns):
            module(states)

    assert watch(run, [one, other]) == {}


def test_outputs_that_cannot_be_used_are_let_go():
    twice, once = nn.Linear(8, 8), nn.Linear(8, 8)
    kept, seen = CachedOutputs([twice, once], 3), []
    with torch.no_grad(), watched([twice, once], kept):
        for states in STATES:
            seen += [weakref.ref(twice(states)), weakref.ref(twice(states))]
            once(states)
            kept.end_pass()
            assert not any(output() is not None for output in seen)


def test_an_output_that_was_written_to_afterwards_is_left_out():
    written, read = nn.Linear(8, 8), nn.Linear(8, 8)

    def run(states):
        written(states).add_(states)
        read(states).add(states)

    assert list(watch(run, [written, read])) == [read]


def test_beyond_the_budget_nothing_is_kept(monkeypatch):
    module = nn.Linear(8, 8)
    monkeypatch.setattr(outputs, "OUTPUTS_BUDGET_BYTES", 100)
    assert watch(module, [module]) == {}


def test_a_remembered_map_answers_with_its_output_and_leads_the_gradient_back():
    module = nn.Linear(8, 6).requires_grad_(False)
    states = torch.randn(2, 3, 8, requires_grad=True)
    expected = module(states)
    (gradient,) = torch.autograd.grad(expected.square().sum(), states)
    with remembered({module: expected.detach()}):
        found = module(states)
        (remembered_gradient,) = torch.autograd.grad(found.square().sum(), states)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(remembered_gradient, gradient)
    assert "forward" not in module.__dict__


def test_a_remembered_map_multiplies_where_it_is_given_other_columns():
    module = nn.Linear(8, 6).requires_grad_(False)
    states = torch.randn(2, 4, 8)
    with remembered({module: torch.zeros(2, 3, 6)}):
        found = module(states)
    torch.testing.assert_close(found, module(states))


def test_only_ordinary_weights_are_watched(monkeypatch):
    class Foreign(nn.Linear):
        pass

    moved = nn.Linear(8, 8)
    moved.forward = moved.forward  # as accelerate does
    plain = nn.Linear(8, 8)
    layer = nn.ModuleList([plain, Foreign(8, 8), nn.Linear(8, 8, device="meta"), moved, nn.Conv1d(8, 8, 1)])
    assert linear_maps([layer]) == [plain]
    monkeypatch.setattr(linears, "SMALLEST_WEIGHT_BYTES", 2**20)
    assert linear_maps([layer]) == []
