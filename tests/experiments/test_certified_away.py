"""An answer counts as certified in the table as it does in an app."""

from dataclasses import replace

from experiments.across_kinds.certified import count
from guardrail.calibration.familiarity import ENOUGH
from guardrail.calibration.fit import fit_profile
from guardrail.calibration.options import FitOptions, Shares
from guardrail.calibration.profile import Guarantee
from guardrail.scoring.uncertainty import HiddenState
from tests.calibration.test_fit import MODEL, SCORER, SOURCE
from tests.support.fitting import some_answers

PROMISE = Guarantee(0.3, 0.9)


def made(answers):
    options = FitOptions(guarantees=(PROMISE,), shares=Shares(0.4, 0.5, 0.1), inputs="hybridgrad")
    return fit_profile(answers, model=MODEL, scorer=SCORER, making=SOURCE, options=options).profile


def moved(answer):
    hidden = answer.observation.hidden
    far = HiddenState(hidden.depth, [value + 3.0 for value in hidden.mean], hidden.last)
    return replace(answer, observation=replace(answer.observation, hidden=far))


def test_at_home_answers_count_from_the_fiftieth_on_and_elsewhere_none_after_the_alarm():
    profile = made(some_answers(600, known=2.0))
    at_home = count(profile, some_answers(200, seed=1, known=2.0), PROMISE, 0)
    assert at_home.feasible
    assert at_home.alarm is None
    assert 0 < at_home.gated[0] < at_home.ungated[0]
    away = count(profile, [moved(one) for one in some_answers(200, seed=1, known=2.0)], PROMISE, 0)
    assert away.alarm is not None
    assert away.alarm <= ENOUGH
    assert (away.gated[0], away.after) == (0, 0)
    assert away.ungated == at_home.ungated


def test_what_lies_outside_of_the_domain_does_not_count():
    profile = made(some_answers(600, known=2.0))
    cases = [replace(one, facts=replace(one.facts, form="json")) for one in some_answers(200, known=2.0)]
    assert count(profile, cases, PROMISE, 0).gated == (0, 0)
