import pytest

from guardrail.errors import PolicyError
from guardrail.policy.dry_run import read_cases, run_cases
from guardrail.policy.load import load_policy
from guardrail.policy.yaml_document import builtin_policies

NAMES = list(builtin_policies())
FALLBACKS = ("on_error", "on_uncalibrated", "on_outside_domain")


@pytest.mark.parametrize("name", NAMES)
def test_the_cases_of_a_ready_policy_hold(name):
    file = builtin_policies()[name]
    results = run_cases(load_policy(file), read_cases(file.parent / "cases" / file.name))
    assert len(results) >= 3
    assert [result.differences for result in results] == [()] * len(results)
    # Each way out of the policy is tried.
    policy = load_policy(file)
    if name != "observe-only":
        tried = {result.decision.rule for result in results}
        assert tried == {*(rule.id for rule in policy.rules), *FALLBACKS}


def _cases(tmp_path, text):
    file = tmp_path / "cases.yaml"
    file.write_text(text)
    return file


def test_a_case_that_does_not_hold_says_what_is_different(tmp_path):
    file = _cases(
        tmp_path,
        "cases:\n"
        "  - {name: a, given: {confidence: 0.95}, expect: pass}\n"
        "  - name: b\n"
        "    given: {confidence: 0.6}\n"
        "    expect: {action: pass, rule: unsure, message: none}\n",
    )
    holds, fails = run_cases(load_policy("builtin:default"), read_cases(file))
    assert holds.holds
    assert not fails.holds
    assert str(fails.place) == f"{file}:3:5"
    assert fails.differences == (
        "action: expected 'pass', got 'flag'",
        "message: expected 'none', got 'Check before using: 60% likely to be right.'",
        "by unsure: confidence 0.6 is at least 0.5",
    )


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("", ":1:1 yaml: the file is empty"),
        ("cases: []\n", ":1:8 cases: is empty"),
        ("case: []\n", ":1:1 case: unknown key; did you mean 'cases'?"),
        ("cases: [{given: {}, expect: pass}]\n", ":1:9 cases[0].name: is missing"),
        ("cases: [{name: a, expect: pass}]\n", ":1:9 cases[0].given: is missing"),
        (
            "cases: [{name: a, given: {confidense: 1}, expect: pass}]\n",
            ":1:27 cases[0].given.confidense: unknown key;",
        ),
        (
            "cases: [{name: a, given: {confidence: high}, expect: pass}]\n",
            ":1:39 cases[0].given.confidence: is text",
        ),
        (
            "cases: [{name: a, given: {uncertainty: {hybrid: 1}}, expect: pass}]\n",
            ":1:41 cases[0].given.uncertainty.hybrid: unknown score; did you mean 'hybridgrad'?",
        ),
        (
            "cases: [{name: a, given: {quantile: {quality: 1}}, expect: pass}]\n",
            ":1:38 cases[0].given.quantile.quality: unknown score",
        ),
        ("cases: [{name: a, given: {}, expect: alow}]\n", ":1:38 cases[0].expect: is 'alow'"),
        ("cases: [{name: a, given: {}, expect: {}}]\n", ":1:38 cases[0].expect: expects nothing"),
        (
            "cases: [{name: a, given: {}, expect: pass}, {name: a, given: {}, expect: pass}]\n",
            ":1:52 cases[1].name: duplicate name",
        ),
        (
            "cases: [{name: a, given: {error: '${NO_SUCH}'}, expect: pass}]\n",
            ":1:34 cases[0].given.error: the env",
        ),
    ],
)
def test_what_is_wrong_with_cases_is_said_with_its_place(tmp_path, text, begins):
    file = _cases(tmp_path, text)
    with pytest.raises(PolicyError) as raised:
        read_cases(file)
    assert any(one.startswith(f"{file}{begins}") for one in raised.value.mistakes), str(raised.value)


def test_a_confidence_without_guarantees_is_an_answer_that_none_lets_through(tmp_path):
    file = _cases(tmp_path, "cases: [{name: a, given: {confidence: 0.1}, expect: abstain}]\n")
    (result,) = run_cases(load_policy("builtin:strict"), read_cases(file))
    assert result.decision.rule == "default"


def test_an_answer_is_complete_unless_it_is_said_otherwise(tmp_path):
    given = "{confidence: 0.9, finish_reason: %s}"
    file = _cases(
        tmp_path,
        "cases:\n"
        f"  - {{name: a, given: {given % 'stop'}, expect: {{rule: default}}}}\n"
        f"  - {{name: b, given: {given % 'length'}, expect: {{rule: cut-off}}}}\n"
        f"  - {{name: c, given: {given % 'unknown'}, expect: {{rule: on_uncalibrated}}}}\n",
    )
    assert all(result.holds for result in run_cases(load_policy("builtin:strict"), read_cases(file)))
