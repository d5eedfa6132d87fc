"""Hidden states, drawn, and profiles that keep such."""

import json
from hashlib import sha256

import numpy as np

from guardrail.calibration.reference_states import ReferenceStates
from guardrail.scoring.uncertainty import HiddenState, Observation
from tests.support.profiles import a_profile

SIZE = 24


def observations(count, seed, shift=0.0, size=SIZE, depth=0.5):
    """Answers whose states are drawn alike; ``shift`` in standard deviations of each number."""
    drawn = 3 + 2 * (np.random.default_rng(seed).standard_normal((count, size)) + shift)
    return [
        Observation({"hybridgrad": 1e-3}, HiddenState(depth, one.tolist(), one.tolist())) for one in drawn
    ]


def hidden_states(count, seed, shift=0.0, **options):
    return [one.hidden for one in observations(count, seed, shift, **options)]


def states_of(count=60, seed=0, **options):
    fitting, kept = (observations(many, one, **options) for many, one in ((40, seed + 50_000), (count, seed)))
    return ReferenceStates.of(fitting, kept, seed=0)


def profile_with_states(count=60, seed=0, **changes):
    without_probe = a_profile().confidence_model.model_copy(update={"inputs": "signals", "probe": None})
    return a_profile(confidence_model=without_probe, states=states_of(count, seed), **changes)


def resealed(known):
    """The plain state of familiarity, changed by hand by somebody who knows how its checksum is made."""
    values = {name: value for name, value in known.items() if name != "sha256"}
    plain = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return {**values, "sha256": sha256(plain.encode()).hexdigest()}
