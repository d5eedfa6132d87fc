"""A file that a policy extends is a policy by itself, or a mistake where it is named: never empty."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrail.calibration.profile import write_profile
from guardrail.errors import PolicyError
from guardrail.policy.load import check_policy, load_policy
from tests.support.policy_texts import GOOD, rules
from tests.support.profiles import a_profile

# Let everything through, but for what the base withholds.
CHILD = "version: 1\nname: child\nextends: BASE\nrules: [{id: default, action: pass}]\n"
WHOLE = "version: 1\nname: base\nrules: [{id: default, action: abstain}]\n"
LFS = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d7a' * 16}\nsize 12345\n"


def _checked(folder, content, base="base.yaml", child=CHILD):
    if content is not None:
        (folder / base).write_text(content)
    (folder / "child.yaml").write_text(child.replace("BASE", f"./{base}"))
    return check_policy(folder / "child.yaml")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (LFS, "a git-lfs pointer"),
        ("Not found", "text"),
        ("404: Not Found\n", "not a policy (the key 404 is not text"),
        ("<!DOCTYPE html>\n<html><body class='x'>gone: yes</body></html>\n", "a web page"),
        ("<html>\n  <head>: [\n", "a web page"),
        ("[1, 2]", "a list"),
        ("[]", "a list"),
        ("7", "a number"),
        ("true", "true"),
        ("null", "has no value"),
        ("~", "has no value"),
        ('""', "text"),
        ("{}", "an empty map"),
        ("", "the file is empty"),
        ("# nothing\n", "the file is empty"),
        ("--- {}\n--- {}\n", "a second document"),
        ('{"message": "Not Found", "status": "404"}', "no version, but message, status"),
        ("rules: [{id: default, action: abstain}]\nname: base\n", "no version, but name, rules"),
        ("version: 1\nname: base\n", "no rules, but name, version"),
        ("version: 1\nname: base\nmode: observe\n", "no rules, but mode, name, version"),
        (WHOLE.replace("1", "2", 1), "version 2"),
        (WHOLE.replace("1", "'1'", 1), "version '1'"),
        (WHOLE.replace("1", "true", 1), "version True"),
        (WHOLE.replace("name: base\n", ""), "not valid by itself: name is missing"),
        ("version: 1\ncases: [{name: a, given: {}, expect: pass}]\n", "no rules, but cases, version"),
        (json.dumps({"openapi": "3.0", "paths": {}}), "no version, but openapi, paths"),
    ],
)
def test_a_base_that_is_no_policy_is_a_mistake_where_it_is_named(tmp_path, content, found):
    checked = _checked(tmp_path, content)
    assert checked.policy is None
    (mistake,) = [one for one in checked.mistakes if one.path == "extends"]
    assert (mistake.place.line, mistake.place.column) == (3, 10)
    assert mistake.place.file.endswith("child.yaml")
    assert "base.yaml: " in mistake.text
    assert found in mistake.text


def test_a_profile_in_place_of_a_base_is_named_as_one(tmp_path):
    write_profile(a_profile(), tmp_path / "base.json")
    checked = _checked(tmp_path, None, "base.json")
    assert [str(one).partition("child.yaml:")[2] for one in checked.mistakes] == [
        f"3:10 extends: {tmp_path / 'base.json'}: is a profile, not a policy; name it under profile"
    ]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (WHOLE + "extends: [a, b]\n", "base.yaml:4:10 extends: is a list"),
        (WHOLE + "extends: {version: 1}\n", "base.yaml:4:10 extends: is a map"),
        (WHOLE + "extends: 7\n", "base.yaml:4:10 extends: is a number"),
        (WHOLE + "extends: ''\n", "base.yaml:4:10 extends: is empty"),
        (WHOLE + "escalation: 5\n", "base.yaml:4:13 escalation: is a number"),
        (WHOLE + "log: [x]\n", "base.yaml:4:6 log: is a list"),
        (WHOLE + "extends: ./none.yaml\n", "base.yaml:4:10 extends: "),
        (WHOLE + "extends: builtin:strct\n", "base.yaml:4:10 extends: there is no built-in policy"),
        (WHOLE + "onerror: pass\n", "base.yaml:4:1 onerror: unknown key"),
        # The child puts another rule in its place; the base might as well be used without it.
        (WHOLE.replace("action: abstain", "action: abstian"), "base.yaml:3:31 rules[0].action: is 'abstian'"),
        (
            WHOLE.replace("rules: [", "rules: [{id: x, when: {tags: x}, action: escalate, to: h}, "),
            ".to: is ",
        ),
    ],
)
def test_what_is_wrong_with_a_base_alone_is_told_where_it_stands(tmp_path, content, place):
    child = CHILD + "escalation: {h: {callable: 'a:b'}}\nlog: {file: x}\n"
    checked = _checked(tmp_path, content, child=child)
    assert checked.policy is None
    assert any(place in str(one) for one in checked.mistakes)


@pytest.mark.parametrize("value", ["[base.yaml]", "{version: 1}", "7", "true", "''", '{"rules": []}'])
def test_what_is_no_name_of_a_base_is_a_mistake(tmp_path, value):
    (tmp_path / "base.yaml").write_text(WHOLE)
    (tmp_path / "child.yaml").write_text(CHILD.replace("BASE", value))
    checked = check_policy(tmp_path / "child.yaml")
    assert checked.policy is None
    assert "child.yaml:3:10 extends: " in str(checked.mistakes[0])


def test_a_base_of_a_base_is_told_where_the_base_names_it(tmp_path):
    (tmp_path / "deepest.yaml").write_text(LFS)
    checked = _checked(tmp_path, "version: 1\nname: base\nextends: deepest.yaml\n")
    (mistake,) = checked.mistakes
    assert "base.yaml:3:10 extends: " in str(mistake)
    assert "git lfs pull" in mistake.text


def test_a_base_that_has_its_rules_of_its_own_base_is_one(tmp_path):
    checked = _checked(tmp_path, "version: 1\nname: base\nextends: builtin:strict\n")
    assert checked.mistakes == ()
    assert checked.policy.rules[-1].action == "pass"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
_KEYS = ["version", "name", "rules", "extends", "mode", "escalation", "on_error", "log", "profile", "other"]
_RULES = st.just([{"id": "default", "action": "abstain"}])
_NEARLY = st.dictionaries(st.sampled_from(_KEYS), _JSON, max_size=4).map(
    lambda given: {"version": 1, "name": "base", "rules": [{"id": "default", "action": "abstain"}], **given}
)
_DOCUMENTS = (
    _JSON | st.dictionaries(st.sampled_from(_KEYS), _JSON | _RULES | st.just(1), max_size=5) | _NEARLY
)


@settings(max_examples=120, deadline=None)
@given(document=_DOCUMENTS)
def test_any_json_in_place_of_a_base_is_a_mistake_or_a_policy(tmp_path_factory, document):
    folder = tmp_path_factory.mktemp("bases")
    (folder / "base.json").write_text(json.dumps(document))
    child = _checked(folder, None, "base.json", CHILD + "profile: auto\nescalation: {}\nlog: {file: x}\n")
    assert (child.policy is None) == bool(child.mistakes)
    alone = check_policy(folder / "base.json")
    wrong_alone = [one for one in alone.mistakes if not one.path.startswith("profile")]
    assert not (child.policy and wrong_alone), (document, wrong_alone)


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40))
def test_any_text_in_place_of_a_base_is_a_mistake(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("bases")
    (folder / "base.yaml").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert _checked(folder, None).policy is None


def test_what_a_real_base_withholds_is_withheld(tmp_path):
    (tmp_path / "child.yaml").write_text(CHILD.replace("BASE", "./good.yaml"))
    (tmp_path / "good.yaml").write_text(GOOD)
    ids = [rule.id for rule in load_policy(tmp_path / "child.yaml").rules]
    assert ids == ["cut-off", "risky", "certified", "odd", "unsure", "default"]
    (tmp_path / "good.yaml").write_text(LFS)
    with pytest.raises(PolicyError, match="git lfs pull"):
        load_policy(tmp_path / "child.yaml")


def test_a_file_of_cases_that_is_none_is_a_mistake(tmp_path):
    from guardrail.policy.dry_run import read_cases

    for content in (LFS, "Not found", "[]", "7", "{}", "null", rules("{id: d, action: abstain}")):
        (tmp_path / "cases.yaml").write_text(content)
        with pytest.raises(PolicyError):
            read_cases(tmp_path / "cases.yaml")
