import importlib.util

import pytest
import yaml

from guardrail.calibration.profile import OF_THE_PROFILE
from guardrail.policy.conditions import NUMBERS, QUANTILES
from guardrail.policy.validation import SCHEMA_FILE, policy_schema, schema_text
from guardrail.policy.yaml_document import builtin_policies
from guardrail.scoring.uncertainty import SCORES
from tests.support.policy_texts import GOOD

SCHEMA = policy_schema()
FOLDER = builtin_policies()["default"].parent
WRONG = [
    "version: 2\nname: p\nrules: [{id: a, action: pass}]\n",
    "version: 1\nname: p\n",
    "version: 1\nname: p\nmod: observe\nrules: [{id: a, action: pass}]\n",
    "version: 1\nname: p\nrules: [{id: a, action: alow}]\n",
    "version: 1\nname: p\nrules: []\n",
    "version: 1\nname: p\nrules: [{id: a, when: {}, action: pass}]\n",
    "version: 1\nname: p\nrules: [{id: a, when: {confidence: 0.5}, action: pass}]\n",
    "version: 1\nname: p\nrules: [{id: a, when: {confidence: {gte: 5}}, action: pass}]\n",
    "version: 1\nname: p\nrules: [{id: a, when: {confidence: {}}, action: pass}]\n",
    "version: 1\nname: p\nrules: [{id: a, when: {uncertainty: {hybrid: {gte: 5}}}, action: pass}]\n",
    "version: 1\nname: p\nrules: [{id: a, when: {finish_reason: end}, action: pass}]\n",
    "version: 1\nname: p\nrules: [{id: a, when: {any: []}, action: pass}]\n",
    "version: 1\nname: p\nrules: [{id: a, action: pass}]\non_error: pass\n",
    "version: 1\nname: p\nrules: [{id: a, action: pass}]\non_uncalibrated: {action: pass}\n",
    "version: 1\nname: p\nrules: [{id: a, action: pass}]\nescalation: {t: {timeout_s: 3}}\n",
    "version: 1\nname: p\nrules: [{id: a, action: pass}]\nescalation: {t: {queue: a, callable: b}}\n",
]


def test_the_file_that_ships_is_what_the_models_say():
    assert (FOLDER / SCHEMA_FILE).read_text(encoding="utf-8") == schema_text()


def test_every_key_says_what_it_is():
    for name, definition in {"Policy": SCHEMA, **SCHEMA["$defs"]}.items():
        assert definition["description"]
        assert definition["additionalProperties"] is False
        for key, of_key in definition["properties"].items():
            assert of_key.get("description"), f"{name}.{key}"


def test_every_name_of_a_score_is_offered():
    when = SCHEMA["$defs"]["When"]["properties"]
    assert when["uncertainty"]["propertyNames"]["enum"] == [*NUMBERS] == [*SCORES, "tokens"]
    assert when["quantile"]["propertyNames"]["enum"] == [*QUANTILES]
    assert set(QUANTILES) == {*NUMBERS, *OF_THE_PROFILE}


@pytest.mark.skipif(not importlib.util.find_spec("jsonschema"), reason="jsonschema is not installed")
def test_a_validator_takes_the_good_and_refuses_the_wrong():
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(SCHEMA)
    validator = Draft202012Validator(SCHEMA)
    for file in builtin_policies().values():
        assert not list(validator.iter_errors(yaml.safe_load(file.read_text())))
    assert not list(validator.iter_errors(yaml.safe_load(GOOD)))
    for text in WRONG:
        assert list(validator.iter_errors(yaml.safe_load(text))), text


def _unknown_keys(value, schema):
    """Keys that the schema has no property for, following references and alternatives."""
    if "$ref" in schema:
        schema = {**SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], **schema}
    options = [one for one in schema.get("anyOf", []) if one.get("type") or one.get("$ref")]
    if options:
        return min((_unknown_keys(value, one) for one in options), key=len)
    if isinstance(value, list) and "items" in schema:
        return [key for item in value for key in _unknown_keys(item, schema["items"])]
    if not isinstance(value, dict) or "properties" not in schema:
        return []
    known = schema["properties"]
    unknown = [key for key in value if key not in known]
    return unknown + [
        found for key in value if key in known for found in _unknown_keys(value[key], known[key])
    ]


@pytest.mark.parametrize("text", [GOOD, *(file.read_text() for file in builtin_policies().values())])
def test_every_key_of_a_good_policy_is_in_the_schema(text):
    values = yaml.safe_load(text)
    assert _unknown_keys(values, SCHEMA) == []
    values["rules"] = [{"id": "a", "action": "pass", "when": {"any": [{"confidense": {}}]}}]
    assert _unknown_keys(values, SCHEMA) == ["confidense"]
