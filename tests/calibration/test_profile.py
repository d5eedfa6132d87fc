"""A profile says the same after a round trip, and refuses what it was not made for."""

import json
import subprocess
import sys
from dataclasses import replace
from math import inf, nan, nextafter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from guardrail.calibration.calibrators import Isotonic, Platt, VennAbers
from guardrail.calibration.profile import CertifiedThreshold, Guarantee, Making, read_profile, write_profile
from guardrail.errors import CalibrationError, ForeignProfileError, ProfileError
from guardrail.scoring.options import ScoringOptions, fingerprint_scorer
from guardrail.scoring.uncertainty import Observation
from tests.support.profiles import (
    FEASIBLE,
    INFEASIBLE,
    MAKING,
    MODEL,
    SCORER,
    a_profile,
    an_observation,
)

CALIBRATORS = [
    Platt(slope=1.0, intercept=0.0),
    Isotonic(scores=(0.0, 1.0), probabilities=(0.1, 0.9)),
    VennAbers(scores=(0.0,), lower=(0.0, 0.2, 0.2), upper=(0.7, 0.7, 1.0)),
]
UNCALIBRATED = a_profile(confidence_model=None, calibrator=None, certified=(), report={})


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "profile.json"
    write_profile(a_profile(), path)
    return path


def _altered(path, *keys, value):
    values = json.loads(path.read_text())
    inner = values
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize(
    "profile", [*(a_profile(calibrator=one) for one in CALIBRATORS), UNCALIBRATED], ids=lambda _: ""
)
def test_a_profile_read_back_is_the_profile_written(profile, tmp_path):
    write_profile(profile, tmp_path / "p.json")
    read = read_profile(tmp_path / "p.json")
    assert read == profile
    assert read.digest == profile.digest
    assert read.assess(an_observation()) == profile.assess(an_observation())
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]


def test_a_profile_is_json_that_a_person_can_read(path):
    values = json.loads(path.read_text())
    assert values["version"] == 2
    assert values["model"]["name"] == "tiny"
    assert values["certified"][1]["reason"].startswith("needs at least 59")
    assert values["sha256"] == a_profile().digest
    assert '"values": [ 0.0001, 0.001, 0.001, 0.01 ]' in path.read_text()


def test_a_copy_with_changes_has_a_digest_of_its_own():
    profile = a_profile()
    before = profile.digest
    changed = profile.model_copy(update={"calibrator": Platt(slope=2.0, intercept=0.0)})
    assert changed.digest != before == profile.digest


@pytest.mark.parametrize("text", ["[\n1, 2\n]", '"[1,  2]', "[ 1,\t2 ]\\", "[\u2028 1 ]", "é"])
def test_no_text_is_changed_by_being_written(text, tmp_path):
    profile = a_profile(making=MAKING.model_copy(update={"judge": text}))
    write_profile(profile, tmp_path / "p.json")
    assert read_profile(tmp_path / "p.json").making.judge == text


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("certified", 0, "threshold"), 0.5),
        (("calibrator", "intercept"), 3.0),
        (("reference", "hybridgrad", "values"), [1e-5, 1e-3, 1e-3, 1e-2]),
        (("report", "auroc", "value"), 0.99),
        (("making", "judge"), "f1"),
        (("model", "weights"), "00" * 32),
        (("confidence_model", "probe", "bias"), 0.5),
        (("sha256",), "0" * 64),
        (("sha256",), None),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_an_altered_file_is_refused(path, keys, value):
    with pytest.raises(ProfileError, match="altered since it was written"):
        read_profile(_altered(path, *keys, value=value))


@pytest.mark.parametrize(
    "keys",
    [("extra",), ("model", "extra"), ("scorer", "extra"), ("calibrator", "extra"), ("certified", 0, "extra"),
     ("confidence_model", "extra"), ("confidence_model", "probe", "extra"), ("making", "extra"),
     ("confidence_model", "terms", 0, "extra"), ("reference", "hybridgrad", "extra")],
    ids=lambda keys: ".".join(map(str, keys)),
)  # fmt: skip
def test_an_unknown_key_is_named_with_its_place(path, keys):
    with pytest.raises(ProfileError, match=r"not a valid profile: .*extra: "):
        read_profile(_altered(path, *keys, value=1))


@pytest.mark.parametrize(
    "keys",
    [("calibrator", "slope"), ("certified", 0, "threshold"), ("report", "auroc", "value"),
     ("making", "generation", "max_tokens"), ("confidence_model", "intercept")],
    ids=lambda keys: ".".join(map(str, keys)),
)  # fmt: skip
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_what_is_not_a_number_is_refused_wherever_it_stands(path, keys, value):
    _altered(path, *keys, value="HERE")
    path.write_text(path.read_text().replace('"HERE"', value))
    with pytest.raises(ProfileError):
        read_profile(path)


@pytest.mark.parametrize("version", [1, 3, 0, "2", None, [2]])
def test_another_version_is_refused_by_its_number(path, version):
    _altered(path, "version", value=version)
    with pytest.raises(ProfileError, match=r"has version .* reads version 2.*calibrate QUESTIONS.jsonl"):
        read_profile(path)
    kept = path.with_name(f"{path.stem}.answers.jsonl")
    kept.touch()
    # Nothing has to be answered again where the answers were kept.
    with pytest.raises(ProfileError, match=f"guardrail calibrate {kept} --output {path}"):
        read_profile(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"profile: yes", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1, 2]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"{}", "has version None"),
        (b'{"version": 2}', "not a valid profile"),
        (b'{"version": 1, "version": 1e400}', "version"),
    ],
)
def test_a_file_that_is_no_profile_is_refused(tmp_path, content, said):
    path = tmp_path / "p.json"
    path.write_bytes(content)
    with pytest.raises(ProfileError, match=said):
        read_profile(path)


@pytest.mark.parametrize("value", ['"\\ud800"', "[" * 900 + "]" * 900], ids=["half a character", "deep"])
def test_what_cannot_be_hashed_is_refused(path, value):
    _altered(path, "report", "auroc", value="HERE")
    path.write_text(path.read_text().replace('"HERE"', value))
    with pytest.raises(ProfileError):
        read_profile(path)


def test_a_truncated_file_is_refused_wherever_it_ends(path):
    whole = path.read_bytes().rstrip()
    for end in range(0, len(whole), 97):
        path.write_bytes(whole[:end])
        with pytest.raises(ProfileError):
            read_profile(path)


def test_a_file_that_is_not_there_says_how_to_make_one(tmp_path):
    with pytest.raises(ProfileError, match="guardrail calibrate makes one"):
        read_profile(tmp_path / "none.json")
    with pytest.raises(ProfileError, match="cannot be read"):
        read_profile(tmp_path)


def test_a_profile_that_cannot_be_written_says_so(tmp_path):
    with pytest.raises(ProfileError, match="cannot be written"):
        write_profile(a_profile(), tmp_path / "no" / "such" / "folder.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(st.data())
def test_whatever_stands_in_its_place_a_file_is_read_as_it_was_or_refused(path, data):
    values = {**a_profile().model_dump(mode="json"), "sha256": a_profile().digest}
    inner = values
    while True:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(inner[key], dict | list) or not inner[key] or data.draw(st.booleans()):
            break
        inner = inner[key]
    inner[key] = data.draw(json_values)
    path.write_text(json.dumps(values))
    try:
        read = read_profile(path)
    except ProfileError:
        return
    assert read == a_profile()


@pytest.mark.parametrize(
    ("model", "differing"),
    [
        (replace(MODEL, weights="00" * 32), ["model.weights"]),
        (replace(MODEL, chat_template=None), ["model.chat_template"]),
        (replace(MODEL, dtype="bfloat16"), ["model.dtype"]),
        (replace(MODEL, quantization="bitsandbytes 4bit"), ["model.quantization"]),
        (replace(MODEL, weights="00" * 32, dtype="float16"), ["model.weights", "model.dtype"]),
    ],
)
def test_a_profile_of_another_model_is_refused_by_the_fields_that_differ(model, differing):
    with pytest.raises(ForeignProfileError) as caught:
        a_profile().check(model, SCORER)
    assert list(caught.value.differences) == differing
    assert all(name in str(caught.value) for name in differing)


@pytest.mark.parametrize(
    "change",
    [
        {"semantic_token": -5},
        {"reduction": "mean"},
        {"norm": "l2"},
        {"entropy_weight": False},
        {"layers": "last"},
        {"include_tied_embedding": True},
        {"version": SCORER.version + 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_profile_of_another_scorer_is_refused_by_the_field_that_differs(change):
    with pytest.raises(ForeignProfileError, match=f"scorer.{next(iter(change))} is "):
        a_profile().check(MODEL, replace(SCORER, **change))


def test_the_same_model_by_another_name_is_the_same():
    a_profile().check(
        replace(MODEL, name="./elsewhere"), fingerprint_scorer(ScoringOptions(semantic_token=-4))
    )


def test_an_assessment_says_all_that_the_profile_knows():
    profile = a_profile()
    found = profile.assess(an_observation())
    assert found.confidence_score == profile.confidence_model.score(an_observation())
    assert found.confidence == profile.calibrator.probability(found.confidence_score)
    assert found.quantiles == {"hybridgrad": 0.5, "confidence": 1.0}
    assert found.guarantees == (Guarantee(0.1, 0.9),)
    assert found.interval is None


def test_a_guarantee_is_given_from_its_threshold_on():
    score = a_profile().assess(an_observation()).confidence_score
    for threshold, given_by in ((score, (Guarantee(0.1, 0.9),)), (nextafter(score, inf), ())):
        profile = a_profile(certified=(FEASIBLE.model_copy(update={"threshold": threshold}), INFEASIBLE))
        assert profile.assess(an_observation()).guarantees == given_by


def test_venn_abers_gives_both_of_its_probabilities():
    found = a_profile(calibrator=CALIBRATORS[2]).assess(an_observation())
    assert found.interval == (0.2, 1.0)


def test_without_labels_there_are_quantiles_and_no_confidence():
    found = UNCALIBRATED.assess(an_observation())
    assert (found.confidence, found.confidence_score, found.guarantees) == (None, None, ())
    assert found.quantiles == {"hybridgrad": 0.5}
    assert not UNCALIBRATED.is_calibrated


@pytest.mark.parametrize("profile", [a_profile(), UNCALIBRATED], ids=["calibrated", "uncalibrated"])
def test_an_answer_whose_score_is_not_a_number_is_not_assessed(profile):
    with pytest.raises(CalibrationError):
        profile.assess(an_observation(hybridgrad=nan))


def test_an_answer_without_what_is_needed_is_not_assessed():
    with pytest.raises(CalibrationError, match="hidden state"):
        a_profile().assess(Observation(an_observation().scores))


def test_a_profile_says_what_it_was_asked_to_certify_and_what_it_needs():
    profile = a_profile()
    assert profile.certified_for(Guarantee(0.1, 0.9)) == FEASIBLE
    assert profile.certified_for(Guarantee(0.05, 0.95)) == INFEASIBLE
    assert profile.certified_for(Guarantee(0.01, 0.95)) is None
    assert profile.depths == (0.5,)
    assert UNCALIBRATED.depths == ()


def _of_parts(**parts):
    return MAKING.model_copy(update={"parts": parts})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"calibrator": None, "certified": ()}, "given together"),
        ({"confidence_model": None, "calibrator": None}, "there is none"),
        ({"making": _of_parts(fit=40, certify=40)}, "each need answers"),
        (
            {"making": _of_parts(fit=0, certify=40, report=20)},
            "each need answers",
        ),
        (
            {"making": _of_parts(fit=40, certify=39, report=20)},
            "than the certify part",
        ),
        ({"report": {"auroc": nan}}, "finite"),
        ({"report": {"auroc": object()}}, "JSON"),
    ],
)
def test_a_profile_that_contradicts_itself_is_refused(change, said):
    with pytest.raises(ValidationError, match=said):
        a_profile(**change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"accepted": 21}, "22 are needed"),
        ({"accepted": 41}, "certified by 41"),
        ({"errors": 31}, "31 errors among 30"),
        ({"threshold": None}, "without a reason"),
        ({"threshold": nan}, "finite"),
        ({"max_error": 0.0}, "greater than 0"),
        ({"confidence": 1.0}, "less than 1"),
    ],
)
def test_a_threshold_that_cannot_have_been_certified_is_refused(change, said):
    with pytest.raises(ValidationError, match=said):
        CertifiedThreshold.model_validate({**FEASIBLE.model_dump(), **change})


def test_how_it_was_made_is_plain_json():
    with pytest.raises(ValidationError, match="finite"):
        Making.model_validate({**MAKING.model_dump(), "generation": {"temperature": nan}})


def test_reading_a_profile_loads_neither_torch_nor_numpy(path):
    program = (
        "import sys; from pathlib import Path\n"
        "from guardrail.calibration.profile import read_profile\n"
        "from guardrail.calibration.options import FitOptions\n"
        "read_profile(Path(sys.argv[1]))\n"
        "print(sorted({'torch', 'numpy', 'sklearn', 'scipy', 'transformers', 'matplotlib'} & {*sys.modules}))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"
