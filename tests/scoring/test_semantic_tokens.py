import json

import pytest

from guardrail.errors import OptionError
from guardrail.models.local import LocalModel
from guardrail.models.prompt import encode_prompt
from guardrail.scoring.options import ScoringOptions, fingerprint_scorer
from guardrail.scoring.score import score
from guardrail.scoring.semantic_tokens import (
    KnownToken,
    find_known,
    key_of,
    known_token,
    registry_path,
    save_known,
    saved_tokens,
    shipped_tokens,
    with_known_token,
)
from tests.support.chat import tiny_chat_model
from tests.support.tiny import (
    CHATML,
    FAMILIES,
    LLAMA3,
    MISTRAL,
    local,
    tiny_config,
    tiny_tokenizer,
    tiny_weights,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GUARDRAIL_CACHE_DIR", str(tmp_path))


@pytest.fixture(scope="module")
def model():
    return tiny_chat_model()


@pytest.fixture(scope="module")
def smollm2():
    # Of the whole module, and so opened before a test has a cache of its own.
    return LocalModel.load("smollm2-135m")


def scanned(model, position=-2, **changes):
    key = key_of(model)
    values = {
        "name": "tiny",
        "model_types": (key.model_type,),
        "size": (key.layers, key.width),
        "chat_template": key.chat_template,
        "tail": key.tail,
        "position": position,
        "token": "t",
        "source": "a test",
    }
    return KnownToken(**{**values, **changes})


@pytest.mark.parametrize(
    ("family", "template", "words", "position"),
    [
        ("llama", LLAMA3, ("assistant", "\n\n"), -4),
        ("qwen2", CHATML, ("assistant",), -3),
        ("qwen3", CHATML, ("assistant",), -3),
        ("mistral", MISTRAL, (), -2),
        # A template that another family has, and one that is cut into other tokens.
        ("qwen3", LLAMA3, ("assistant", "\n\n"), None),
        ("qwen3", CHATML, ("ass", "istant"), None),
        ("llama", None, (), None),
    ],
)
def test_the_families_of_the_paper_are_known_by_architecture_and_end_of_template(
    family, template, words, position
):
    tokenizer = tiny_tokenizer(template, words)
    model = local(tiny_weights(tiny_config(FAMILIES[family])), tokenizer=tokenizer)
    known = known_token(model)
    assert (known and known.position) == position
    if known is not None:
        # The rule was made after these.
        assert encode_prompt(tokenizer, "Who?").semantic_token == position
        assert "2605.04638" in known.source


def test_what_ships_has_a_source_each_and_tokens_where_it_says():
    for entry in shipped_tokens():
        assert entry.source
        if entry.token is not None:
            assert entry.tail[entry.position] == entry.token


def test_a_scan_that_was_saved_is_found_and_a_later_one_takes_its_place(model):
    assert known_token(model) is None
    save_known(scanned(model, -2))
    path = save_known(scanned(model, -3))
    assert path == registry_path()
    assert known_token(model) == scanned(model, -3)
    assert len(saved_tokens()) == 1


@pytest.mark.parametrize(
    "changes", [{"size": (9, 9)}, {"chat_template": None}, {"tail": ("x",)}, {"model_types": ("qwen3",)}]
)
def test_a_scan_of_another_model_is_not_taken(model, changes):
    save_known(scanned(model, **changes))
    assert known_token(model) is None


def test_an_argument_goes_before_a_scan_and_a_scan_before_the_rule(model):
    trace = model.generate("Who?")
    assert with_known_token(ScoringOptions(), model) == ScoringOptions()
    save_known(scanned(model, -2))
    by_scan = score(model, trace, with_known_token(ScoringOptions(), model)).semantic_token
    assert (by_scan.position, by_scan.source) == (-2, "known")
    given = with_known_token(ScoringOptions(semantic_token=-1), model)
    assert score(model, trace, given).semantic_token.source == "given"


def test_a_profile_made_by_the_rule_is_scored_by_the_rule_whatever_was_scanned_since(model):
    trace = model.generate("Who?")
    scorer = fingerprint_scorer(ScoringOptions())
    before = score(model, trace, scorer.options())
    save_known(scanned(model, -2))
    after = score(model, trace, scorer.options())
    assert after.semantic_token == before.semantic_token
    assert after.semantic_token.source == "rule"
    assert after.semgrad == pytest.approx(before.semgrad, rel=1e-4)
    # And one made at a scan's token says so for itself.
    assert fingerprint_scorer(with_known_token(ScoringOptions(), model)).semantic_token == -2


@pytest.mark.parametrize("content", ["", "{}", json.dumps([{"name": "x"}]), "[", "\x00"])
def test_a_damaged_file_is_one_sentence_with_the_remedy(model, content):
    registry_path().write_text(content)
    with pytest.raises(OptionError, match="Delete the file, and scan again"):
        known_token(model)


def test_a_file_that_cannot_be_written_is_one_sentence(model, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GUARDRAIL_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(OptionError, match=r"cannot be (written|read)"):
        save_known(scanned(model))


def test_a_model_whose_template_takes_no_lone_question_is_not_known():
    template = "{% if messages[0].role != 'system' %}{{ raise_exception('No system') }}{% endif %}"
    model = local(tiny_weights(tiny_config(FAMILIES["llama"])), tokenizer=tiny_tokenizer(template))
    assert known_token(model) is None


@pytest.mark.slow
def test_smollm2_is_scored_where_that_told_most(smollm2):
    known = find_known(key_of(smollm2), shipped_tokens())
    assert (known.name, known.position) == ("smollm2-135m", -5)
    assert encode_prompt(smollm2.tokenizer, "Who?").semantic_token == -4
    assert with_known_token(ScoringOptions(), smollm2).semantic_token == -5
