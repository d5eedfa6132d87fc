"""Comparing what guardrail says with the plain autograd of tests/support/reference.py."""

from dataclasses import fields
from functools import cache

import pytest

from guardrail.models.trace import Trace
from guardrail.scoring.uncertainty import Uncertainty
from tests.support.reference import Scores, reference_scores
from tests.support.tiny import FAMILIES, tiny_model

EXACTLY = 1e-9
NAMES = [field.name for field in fields(Scores) if field.type in (float, "float")]


@cache
def _reference(name: str, prompt: tuple[int, ...], response: tuple[int, ...], **options) -> Scores:
    path = FAMILIES[name].layers_path
    return reference_scores(tiny_model(name).model, prompt, response, layers_path=path, **options)


def reference(trace: Trace, semantic_token: int | None = None, **options) -> Scores:
    """What autograd says of a trace of one of the tiny families."""
    at = semantic_token or trace.semantic_token
    key = tuple(trace.prompt_ids), tuple(trace.response_ids)
    return _reference(trace.model, *key, semantic_token=at, **options)


def assert_agrees(
    found: Uncertainty, expected: Scores | Uncertainty, within: float = EXACTLY, names: list[str] = NAMES
) -> None:
    wanted = {name: pytest.approx(getattr(expected, name), rel=within, abs=0) for name in names}
    assert {name: getattr(found, name) for name in names} == wanted
