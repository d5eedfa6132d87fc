"""A response that is still being generated: what is scored of it is what the finished one has."""

import pytest

from guardrail.errors import GenerationError
from guardrail.models.decoding import GenerationControls
from guardrail.models.replay import replay as linears
from guardrail.models.sampling import Sampling
from guardrail.scoring.segments import Span, score_segments
from tests.support.chat import tiny_chat_model
from tests.support.tiny import some_prompt, tiny_model

pytestmark = pytest.mark.usefixtures("exact")

SAMPLING = Sampling(max_tokens=12, ignore_end=True)
# Where the response is looked at, and the part that is scored there.
PARTS = {4: Span(0, 3), 9: Span(3, 9)}
KINDS = ["llama", "llama-tied", "gemma2", "mistral", "gpt2", "falcon-alibi", "qwen3-moe", "cohere", "gpt-oss"]
KINDS += ["deepseek-v3", "qwen3-next"]


def watched(model, prompt, look):
    """What is seen at each of PARTS, and the finished trace."""
    seen = []

    def on_growth(partial):
        if (span := PARTS.get(len(partial.ids))) is not None:
            seen.append(look(partial, span))
        return True

    controls = GenerationControls(on_growth=on_growth)
    (trace,) = model.generate_encoded([prompt], SAMPLING, controls=controls)
    return seen, trace


@pytest.mark.parametrize("name", ["mamba", "recurrent-gemma"])
def test_a_model_that_keeps_its_state_within_itself_is_refused(name):
    model = tiny_model(name)

    def look(partial, span):
        with pytest.raises(GenerationError, match="within itself"), partial.trace(model.name):
            pass

    watched(model, some_prompt(25, seed=2), look)


@pytest.mark.parametrize(
    ("name", "kept"), [*((name, "no outputs") for name in KINDS), ("llama", "outputs"), ("gemma2", "outputs")]
)
def test_a_part_has_the_scores_of_the_finished_response_and_the_response_is_the_same(name, kept, monkeypatch):
    if kept == "outputs":
        monkeypatch.setattr(linears, "SMALLEST_WEIGHT_BYTES", 0)
    model, prompt = tiny_model(name), some_prompt(25, seed=2)

    def look(partial, span):
        with partial.trace(model.name) as trace:
            return score_segments(model, trace, [span])[0]

    early, trace = watched(model, prompt, look)
    (alone,) = model.generate_encoded([prompt], SAMPLING)
    assert trace.response_ids == alone.response_ids
    assert trace.log_probabilities == pytest.approx(alone.log_probabilities, rel=1e-9)
    late = score_segments(model, alone, list(PARTS.values()))
    again = score_segments(model, trace, list(PARTS.values()))
    for one, other, third in zip(early, late, again, strict=True):
        assert one.scores() == pytest.approx(other.scores(), rel=1e-6)
        assert third.scores() == pytest.approx(other.scores(), rel=1e-6)
        assert [token.id for token in one.tokens] == [token.id for token in other.tokens]


def test_the_response_ends_where_it_is_told_to():
    model = tiny_chat_model()
    controls = GenerationControls(on_growth=lambda partial: len(partial.ids) < 5)
    trace = model.generate("Who?", Sampling(max_tokens=12), controls=controls)
    whole = model.generate("Who?", Sampling(max_tokens=12))
    assert trace.response_ids == whole.response_ids[:5]
    assert trace.states is not None


def test_its_text_is_what_nothing_that_follows_can_change():
    model = tiny_chat_model()
    drawn = {"temperature": 1.0, "seed": 3, "max_tokens": 24}
    whole = model.generate("Who?", Sampling(**drawn)).text
    stop = whole[10:14]
    texts = []

    def on_growth(partial):
        texts.append(partial.text)
        assert partial.text_until(len(partial.ids)).startswith(partial.text)
        return True

    controls = GenerationControls(on_growth=on_growth)
    trace = model.generate("Who?", Sampling(**drawn, stop=(stop,)), controls=controls)
    assert trace.text == whole[: whole.index(stop)]
    assert all(trace.text.startswith(text) for text in texts)
    assert len(set(texts)) > 3


def test_what_is_raised_while_it_is_looked_at_leaves_the_model_as_it_was():
    model, prompt = tiny_model("llama"), some_prompt(25, seed=2)
    (before,) = model.generate_encoded([prompt], SAMPLING)

    def fail(partial):
        with partial.trace(model.name):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        model.generate_encoded([prompt], SAMPLING, controls=GenerationControls(on_growth=fail))
    (after,) = model.generate_encoded([prompt], SAMPLING)
    assert after.response_ids == before.response_ids
    assert after.log_probabilities == before.log_probabilities
