import json
import os

import pytest

from guardrail.calibration.profile import write_profile
from guardrail.errors import PolicyError
from guardrail.policy.load import check_policy, load_policy
from guardrail.policy.yaml_document import builtin_policies
from tests.support.policy_texts import GOOD, check, mistakes, rules
from tests.support.profiles import FEASIBLE, INFEASIBLE, MAKING, a_profile
from tests.support.states import states_of

DEFAULT = "{id: default, action: abstain}"
BASE = rules(
    "{id: sure, when: {confidence: {gte: 0.9}}, action: pass}",
    "{id: default, action: escalate, to: human}",
    escalation="{human: {queue: 'sqlite:///base.db'}}",
    log="{file: base.jsonl, text: hash}",
    mode="observe",
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.yaml").write_text(BASE)
    return tmp_path


def _extending(folder, text, base="./base.yaml", name="child.yaml"):
    (folder / name).write_text(f"version: 1\nextends: {base}\n{text}")
    return check_policy(name)


def test_a_policy_is_read_from_its_file(folder):
    (folder / "p.yaml").write_text(GOOD)
    assert load_policy("p.yaml") == load_policy(folder / "p.yaml") == check(GOOD).policy


def test_all_mistakes_are_in_the_error(folder):
    (folder / "p.yaml").write_text("version: 2\nnme: p\n")
    with pytest.raises(PolicyError) as raised:
        load_policy("p.yaml")
    assert raised.value.mistakes[0] == "p.yaml:1:1 name: is missing"
    assert len(raised.value.mistakes) == 4
    assert raised.value.exit_status == 2


def test_a_byte_order_mark_and_windows_line_ends_are_no_mistake(folder):
    (folder / "p.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert check_policy("p.yaml").policy == check(GOOD).policy


@pytest.mark.parametrize(
    ("make", "begins"),
    [
        (lambda file: None, "p.yaml:1:1 file: there is no such file"),
        (lambda file: file.mkdir(), "p.yaml:1:1 file: is a folder"),
        (lambda file: file.write_bytes(b"version: 1\nname: \xff\n"), "p.yaml:2:7 file: is not UTF-8"),
        (lambda file: file.write_bytes(GOOD.encode("utf-16")), "p.yaml:1:1 file: is not UTF-8"),
        (lambda file: file.write_text("#" * 1_000_001), "p.yaml:1:1 file: is larger than"),
        (lambda file: file.symlink_to(file), "p.yaml:1:1 file: cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_mistake(folder, make, begins):
    make(folder / "p.yaml")
    checked = check_policy("p.yaml")
    assert checked.policy is None
    assert [str(one)[: len(begins)] for one in checked.mistakes] == [begins]


@pytest.mark.parametrize("name", ["builtin:defualt", "builtin:", "builtin:../default", "a\0b", "x" * 5000])
def test_a_name_that_leads_nowhere_is_a_mistake(name):
    checked = check_policy(name)
    assert checked.policy is None
    assert len(checked.mistakes) == 1
    if name == "builtin:defualt":
        assert "did you mean 'default'?" in str(checked.mistakes[0])


# One policy that extends another.


def test_what_is_not_said_again_is_inherited(folder):
    policy = _extending(folder, "").policy
    assert policy.as_plain() == check(BASE).policy.as_plain()
    assert policy.extends is None


def test_a_rule_of_the_same_id_is_replaced_where_it_stands(folder):
    policy = _extending(folder, "rules: [{id: sure, when: {confidence: {gte: 0.99}}, action: flag}]\n").policy
    assert [(rule.id, rule.action) for rule in policy.rules] == [("sure", "flag"), ("default", "escalate")]


def test_new_rules_go_before_all_that_are_inherited(folder):
    policy = _extending(
        folder,
        "rules:\n"
        "  - {id: one, when: {tags: a}, action: abstain}\n"
        "  - {id: default, action: abstain}\n"
        "  - {id: two, when: {tags: b}, action: abstain}\n",
    ).policy
    assert [rule.id for rule in policy.rules] == ["one", "two", "sure", "default"]
    assert policy.rules[-1].action == "abstain"


def test_targets_and_the_log_are_merged_and_all_else_is_replaced(folder):
    policy = _extending(
        folder,
        "name: child\nmode: enforce\nlog: {text: full}\nescalation: {other: {callable: 'a:b'}}\n"
        "rules: [{id: x, when: {tags: x}, action: escalate, to: other}]\n",
    ).policy
    assert (policy.name, policy.mode) == ("child", "enforce")
    assert (policy.log.file, policy.log.text) == ("base.jsonl", "full")
    assert set(policy.escalation) == {"human", "other"}


def test_a_target_is_replaced_as_a_whole(folder):
    policy = _extending(folder, "escalation: {human: {callable: 'a:b'}}\n").policy
    assert policy.escalation["human"].kind == "callable"


def test_a_ready_policy_can_be_extended(folder):
    policy = _extending(folder, "name: mine\n", base="builtin:strict").policy
    assert policy.rules == load_policy("builtin:strict").rules


def test_an_inherited_mistake_is_told_where_it_stands(folder):
    (folder / "deep").mkdir()
    (folder / "deep/base.yaml").write_text(BASE.replace("action: pass", "action: pas"))
    checked = _extending(
        folder, "nme: x\nrules: [{id: x, when: {tags: x}, action: abstian}]\n", base="deep/base.yaml"
    )
    places = [str(one).partition(": ")[0] for one in checked.mistakes]
    assert places == [
        "child.yaml:3:1 nme",
        "child.yaml:4:42 rules[0].action",
        "deep/base.yaml:4:56 rules[0].action",
    ]


def test_a_base_with_mistakes_of_yaml_is_told_where_it_stands(folder):
    (folder / "base.yaml").write_text("rules: [\n")
    checked = _extending(folder, "mod: x\n")
    assert [str(one)[:20] for one in checked.mistakes] == ["child.yaml:3:1 mod: ", "base.yaml:2:1 yaml: "]


def test_a_rule_of_the_child_that_takes_all_from_the_base_says_how_to_mend_it(folder):
    checked = _extending(folder, "rules: [{id: mine, action: abstain}]\n")
    assert str(checked.mistakes[0]) == (
        "base.yaml:4:5 rules[0]: can never decide: 'mine' (child.yaml:3) has no when and always decides "
        "first; give that one the id 'sure' to replace this"
    )


def test_two_rules_of_the_child_for_one_of_the_base_are_a_mistake(folder):
    checked = _extending(folder, f"rules: [{DEFAULT}, {DEFAULT}]\n")
    assert "duplicate id 'default'" in str(checked.mistakes[0])


def test_policies_that_extend_each_other_are_a_mistake(folder):
    (folder / "base.yaml").write_text("version: 1\nextends: child.yaml\n")
    checked = _extending(folder, "")
    assert [str(one) for one in checked.mistakes] == [
        "base.yaml:2:10 extends: is circular: child.yaml extends this file"
    ]
    assert "is circular" in str(_extending(folder, "", base="child.yaml").mistakes[0])


def test_a_long_line_of_policies_is_a_mistake(folder):
    for at in range(12):
        (folder / f"{at}.yaml").write_text(f"version: 1\nextends: {at + 1}.yaml\n")
    (folder / "12.yaml").write_text(BASE)
    assert "more than 10 policies" in str(check_policy("0.yaml").mistakes[0])
    assert check_policy("5.yaml").policy is not None


# Variables.


def test_variables_are_filled_in():
    text = rules(DEFAULT, model="${OWNER}/${NAME:-small}", description="costs $$5, $5, ${EMPTY:-much} $")
    policy = check(text, OWNER="me", EMPTY="").policy
    assert policy.model == "me/small"
    assert policy.description == "costs $5, $5, much $"


def test_a_variable_is_not_looked_into_again():
    policy = check(rules(DEFAULT, description="'${A}'"), A="${B} $$ {x}").policy
    assert policy.description == "${B} $$ {x}"


def test_a_variable_stays_a_text():
    text = rules("{id: a, when: {confidence: {gte: '${LEAST}'}}, action: pass}", DEFAULT)
    assert "is text; a number" in mistakes(text, LEAST="0.5")[0]


def test_what_a_variable_brings_into_a_message_is_checked_too():
    assert "unknown placeholder {x}" in mistakes(rules("{id: a, action: flag, message: '${A}'}"), A="{x}")[0]


def test_variables_come_from_the_environment(folder, monkeypatch):
    monkeypatch.setenv("GUARDRAIL_QUEUE", "sqlite:////var/q.db")
    assert load_policy("builtin:human-review").escalation["human"].queue == "sqlite:////var/q.db"


# Profiles.


def test_a_profile_lies_beside_the_policy_that_names_it(folder):
    (folder / "deep").mkdir()
    write_profile(a_profile(), folder / "deep/profile.json")
    (folder / "deep/base.yaml").write_text(rules(DEFAULT, profile="profile.json"))
    policy = _extending(folder, "", base="deep/base.yaml").policy
    assert policy.profile == "profile.json"
    assert policy.profile_path.resolve() == (folder / "deep/profile.json").resolve()


def test_where_the_profile_depends_on_the_model_there_is_no_path():
    assert check(rules(DEFAULT)).policy.profile_path is None


def test_the_digest_is_of_the_content_and_not_of_the_place(folder):
    digests = set()
    for place in ("here", "there"):
        (folder / place).mkdir()
        write_profile(a_profile(), folder / place / "profile.json")
        (folder / place / "p.yaml").write_text("# " + place + "\n" + rules(DEFAULT, profile="profile.json"))
        digests.add(load_policy(f"{place}/p.yaml").digest)
    assert len(digests) == 1
    assert check(rules(DEFAULT, profile="auto", combine="last")).policy.digest not in digests


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("{certified: {max_error: 0.1, confidence: 0.9}}", None),
        (
            "{any: [{tags: x}, {certified: {max_error: 0.01, confidence: 0.95}}]}",
            "p.yaml:4:49 rules[0].when.any[1].certified: the profile has no threshold for this guarantee; it "
            "has at most 0.1 wrong with confidence 0.9; at most 0.05 wrong with confidence 0.95. Make the "
            "profile again with guardrail calibrate --target-error 0.01 --confidence 0.95",
        ),
        ("{quantile: {hybridgrad: {gte: 0.9}}}", None),
        (
            "{quantile: {semgrad: {gte: 0.9}}}",
            "p.yaml:4:40 rules[0].when.quantile.semgrad: the profile has no reference answers for 'semgrad'; "
            "it can be hybridgrad or confidence",
        ),
    ],
)
def test_what_the_rules_ask_of_a_profile_must_be_in_it(folder, condition, said):
    write_profile(a_profile(), folder / "profile.json")
    text = rules(f"{{id: a, when: {condition}, action: flag}}", DEFAULT, profile="profile.json")
    assert mistakes(text, folder) == ([said] if said else [])


def test_a_guarantee_that_is_infeasible_is_a_warning(folder):
    write_profile(a_profile(), folder / "profile.json")
    rule = "{id: a, when: {certified: {max_error: 0.05, confidence: 0.95}}, action: pass}"
    checked = check(rules(rule, DEFAULT, profile="profile.json"), folder)
    assert checked.policy is not None
    assert [str(one) for one in checked.warnings] == [
        "p.yaml:4:31 rules[0].when.certified: never holds: the guarantee is infeasible with this profile "
        "(needs at least 59 accepted answers without an error; 31 available)"
    ]


def test_a_guarantee_that_holds_for_a_kind_alone_says_for_which(folder):
    of_kind = FEASIBLE.model_copy(
        update={"max_error": 0.05, "confidence": 0.95, "kind": "sum", "n": 70, "accepted": 65, "needed": 59}
    )
    enough = MAKING.model_copy(update={"answers": 300, "parts": {"fit": 40, "certify": 80, "report": 20}})
    certified = (INFEASIBLE.model_copy(update={"n": 80}), of_kind)
    write_profile(a_profile(certified=certified, making=enough, states=states_of()), folder / "profile.json")
    rule = "{id: a, when: {certified: {max_error: 0.05, confidence: 0.95}}, action: pass}"
    checked = check(rules(rule, DEFAULT, profile="profile.json"), folder)
    assert [str(one) for one in checked.warnings] == [
        "p.yaml:4:31 rules[0].when.certified: holds for requests with the tag kind:sum alone: for others, "
        "needs at least 59 accepted answers without an error; 31 available"
    ]


def test_a_confidence_of_a_profile_without_labels_is_a_warning(folder):
    write_profile(a_profile(confidence_model=None, calibrator=None, certified=()), folder / "profile.json")
    rule = "{id: a, when: {confidence: {gte: 0.5}}, action: pass}"
    checked = check(rules(rule, DEFAULT, profile="profile.json"), folder)
    assert checked.policy is not None
    assert "made without labels" in str(checked.warnings[0])


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"version": 1}'])
def test_a_profile_that_cannot_be_read_is_a_mistake(folder, content):
    (folder / "profile.json").write_text(content)
    (found,) = mistakes(rules(DEFAULT, profile="profile.json"), folder)
    assert found.startswith("p.yaml:5:10 profile: ")


def test_a_profile_that_was_altered_is_a_mistake(folder):
    write_profile(a_profile(), folder / "profile.json")
    values = json.loads((folder / "profile.json").read_text())
    values["certified"][0]["threshold"] = -99.0
    (folder / "profile.json").write_text(json.dumps(values))
    (found,) = mistakes(rules(DEFAULT, profile="profile.json"), folder)
    assert "was altered" in found


# Warnings.


def test_a_target_that_nothing_escalates_to_is_a_warning():
    checked = check(rules(DEFAULT, escalation="{spare: {callable: 'a:b'}}"))
    assert [str(one) for one in checked.warnings] == [
        "p.yaml:5:21 escalation.spare: nothing escalates to this target"
    ]


TICKETED = "{{id: d, action: {action}{to}, message: 'Wait for {{ticket}}.'}}"


@pytest.mark.parametrize("action", ["abstain", "flag"])
def test_a_ticket_where_nobody_is_asked_is_a_mistake(action):
    (mistake,) = mistakes(rules(TICKETED.format(action=action, to="")))
    assert "has a {ticket}, which exists only with action: escalate" in mistake


@pytest.mark.parametrize(
    ("targets", "is_told"),
    [
        ("{a: {queue: 'sqlite:///q.db'}}", True),
        ("{a: {callable: 'm:f', on_error: b}, b: {queue: 'sqlite:///q.db'}}", True),
        ("{a: {callable: 'm:f'}}", False),
        ("{a: {callable: 'm:f', on_error: b}, b: {callable: 'm:g'}}", False),
    ],
)
def test_a_ticket_that_no_queue_will_give_is_a_warning(targets, is_told):
    checked = check(rules(TICKETED.format(action="escalate", to=", to: a"), escalation=targets))
    said = [str(one) for one in checked.warnings]
    assert [one for one in said if "{ticket}" in one] == said
    assert len(said) == (not is_told)
    assert checked.policy is not None


def test_a_model_that_is_not_here_is_a_warning():
    checked = check(rules(DEFAULT, model="./nowhere"))
    assert checked.policy is not None
    assert str(checked.warnings[0]).startswith("p.yaml:5:8 model: ")


def test_annotating_shows_what_may_fail_to_be_scored_and_that_is_a_warning():
    unknown = {"on_uncalibrated": "flag", "on_outside_domain": "flag"}
    text = rules("{id: a, action: flag}", streaming="annotate", **unknown)
    assert "withdrawn only after it was seen" in str(check(text).warnings[0])
    assert check(text + "mode: observe\n").warnings == ()


def test_annotating_may_withhold_nothing_unless_it_only_observes():
    text = rules(DEFAULT, streaming="annotate")
    assert mistakes(text)
    assert check(text + "mode: observe\n").policy is not None


def test_no_ready_policy_has_a_mistake_or_a_warning_but_that_nothing_is_certified_by_what_ships():
    for name in builtin_policies():
        checked = check_policy(f"builtin:{name}", {})
        assert checked.mistakes == ()
        assert all("when.certified" in warning.path for warning in checked.warnings)
        assert all("certifies nothing" in warning.text for warning in checked.warnings)
        assert checked.policy.name == name
        assert checked.policy.description


@pytest.mark.parametrize("profile", [None, "auto", "builtin:smollm2-135m", "general.json"])
def test_a_condition_that_a_general_profile_never_meets_is_warned_of(folder, profile):
    write_profile(a_profile(is_general=True), folder / "general.json")
    write_profile(a_profile(states=states_of()), folder / "own.json")
    rule = "{id: a, when: {certified: {max_error: 0.1, confidence: 0.9}}, action: pass}"
    named = {} if profile is None else {"profile": profile}
    (warning,) = check(rules(rule, DEFAULT, **named), folder).warnings
    assert "certifies nothing" in str(warning)
    assert check(rules(rule, DEFAULT, profile="own.json"), folder).warnings == ()


def test_a_profile_by_which_no_traffic_can_ever_be_familiar_is_warned_of(folder):
    write_profile(a_profile(), folder / "without.json")
    write_profile(a_profile(is_general=True), folder / "general.json")
    write_profile(a_profile(states=states_of()), folder / "own.json")
    asked = [
        "{certified: {max_error: 0.1, confidence: 0.9}}",
        "{not: {familiar: unlike}, confidence: {gte: 0.5}}",
        "{certified: {max_error: 0.05, confidence: 0.95}}",
    ]
    some = [f"{{id: r{at}, when: {when}, action: flag}}" for at, when in enumerate(asked)]

    def warnings(profile):
        checked = check(rules(*some, DEFAULT, profile=profile), folder)
        assert checked.policy is not None
        return [f"{one.path} {one.text}" for one in checked.warnings]

    first, second, infeasible = warnings("without.json")
    assert first.startswith("rules[0].when.certified never holds: the profile keeps no states to compare")
    assert second.startswith("rules[1].when.not.familiar is never known: the profile keeps no states")
    assert "guardrail calibrate, of about 100 answers or more" in first
    # One cause is enough for a condition.
    assert "infeasible" in infeasible
    assert [one.split(":")[0].split(" ", 1)[1] for one in warnings("general.json")] == [
        "never holds",
        "is never known",
        "never holds",
    ]
    assert warnings("own.json") == [infeasible]


def test_the_ready_policies_are_those_that_are_promised():
    promised = {
        "default",
        "strict",
        "lenient",
        "observe-only",
        "escalate-to-stronger-model",
        "human-review",
    }
    assert set(builtin_policies()) == promised
    for file in builtin_policies().values():
        first, *comment = file.read_text().split("version:")[0].splitlines()
        assert first == "# yaml-language-server: $schema=./policy.v1.schema.json"
        assert os.path.exists(file.parent / "policy.v1.schema.json")
        assert sum(len(line) for line in comment) > 100


def test_the_profile_that_ships_for_the_named_model_is_compared_too(folder, monkeypatch):
    write_profile(a_profile(), folder / "profile.json")
    monkeypatch.setattr(
        "guardrail.calibration.held_out.builtin_profiles", lambda: {"smollm2-135m": folder / "profile.json"}
    )
    rule = "{id: a, when: {quantile: {perplexity: {gte: 0.9}}}, action: pass}"
    (found,) = mistakes(rules(rule, DEFAULT, model="smollm2-135m"), folder)
    assert "no reference answers for 'perplexity'" in found
    checked = check(rules(DEFAULT, profile="builtin:smollm2-135m"), folder)
    assert checked.policy.profile_path == folder / "profile.json"
    assert (
        "did you mean 'smollm2-135m'?" in mistakes(rules(DEFAULT, profile="builtin:smolm2-135m"), folder)[0]
    )
