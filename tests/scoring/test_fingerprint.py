"""What changes a score changes the fingerprint, and nothing else does."""

from dataclasses import fields, replace

import pytest

from guardrail.scoring.options import ScoringOptions, fingerprint_scorer

DEFAULT = fingerprint_scorer(ScoringOptions())


@pytest.mark.parametrize(
    "change",
    [
        {"semantic_token": -5},
        {"reduction": "mean"},
        {"norm": "l2"},
        {"entropy_weight": False},
        {"layers": "last"},
        {"include_tied_embedding": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_changes_a_score_changes_the_fingerprint(change):
    changed = fingerprint_scorer(replace(ScoringOptions(), **change))
    ((name, value),) = change.items()
    differing = {one for one, other in changed.as_plain().items() if other != DEFAULT.as_plain()[one]}
    assert differing == {name}
    assert changed.as_plain()[name] == value


@pytest.mark.parametrize("change", [{"exgrad": False}, {"computation": "full"}, {"known": True}])
def test_what_changes_no_score_does_not(change):
    assert fingerprint_scorer(replace(ScoringOptions(), **change)) == DEFAULT


def test_every_option_either_counts_or_is_known_not_to():
    names = {field.name for field in fields(ScoringOptions)} - {"exgrad", "computation", "known"}
    assert names == set(DEFAULT.as_plain()) - {"version"}


def test_the_options_come_back_from_it():
    options = ScoringOptions(semantic_token=-5, reduction="sum", norm="l2", exgrad=False)
    assert fingerprint_scorer(options).options(exgrad=False) == options
