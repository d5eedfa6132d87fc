"""Text that is told of while it grows."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from guardrail.errors import OptionError
from guardrail.models.decoding import CancelledError, GenerationControls, response_text
from guardrail.models.response import TextStream
from guardrail.models.sampling import Sampling
from tests.support.chat import tiny_chat_model
from tests.support.tiny import byte_fallback_tokenizer, tiny_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")

ASKED = "Who wrote Faust?"


@pytest.fixture(scope="module")
def model():
    return tiny_chat_model()


def streamed(text, stop=(), tokenizer=None):
    """What is told of a text, token by token, by what is known after each."""
    tokenizer, told = tokenizer or tiny_tokenizer(), []
    stream = TextStream(tokenizer, stop, 1, told.append)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    for end in range(1, len(ids) + 1):
        stream(torch.tensor([[0, *ids[:end]]]), None)
    return stream, told


@pytest.mark.parametrize("seed", range(6))
def test_the_pieces_together_are_the_text_of_the_trace(model, seed):
    pieces = []
    sampling = Sampling(max_tokens=24, temperature=1.0, seed=seed)
    trace = model.generate(ASKED, sampling, controls=GenerationControls(on_text=pieces.append))
    assert "".join(pieces) == trace.text
    assert len(pieces) > 1
    assert trace.text == model.generate(ASKED, sampling).text


@pytest.mark.parametrize("seed", range(6))
def test_no_piece_holds_any_of_a_stop_string(model, seed):
    sampling = Sampling(max_tokens=24, temperature=1.0, seed=seed)
    whole = model.generate(ASKED, sampling).text
    stop = whole[len(whole) // 2 :][:3]
    pieces = []
    sampling = Sampling(max_tokens=24, temperature=1.0, seed=seed, stop=(stop,))
    trace = model.generate(ASKED, sampling, controls=GenerationControls(on_text=pieces.append))
    assert "".join(pieces) == trace.text == whole[: whole.index(stop)]


@given(
    st.text(alphabet="abSTOP é漢😀", max_size=12),
    st.sampled_from(["STOP", "TO", "é漢", "b"]),
    st.sampled_from([tiny_tokenizer(), byte_fallback_tokenizer()]),
)
def test_what_is_told_is_never_taken_back_and_no_character_is_cut(text, stop, tokenizer):
    _, told = streamed(text, (stop,), tokenizer)
    before = text.partition(stop)[0]
    assert before.startswith("".join(told))
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(told)


def test_what_may_become_a_stop_string_waits_until_it_is_none():
    stream, told = streamed("one STO", ("STOP",))
    assert "".join(told) == "one "
    stream.finish("one STORY")
    assert "".join(told) == "one STORY"


@pytest.mark.parametrize("build", [tiny_tokenizer, byte_fallback_tokenizer])
def test_a_stream_that_ends_within_a_character_repeats_nothing(build):
    tokenizer, told = build(), []
    stream = TextStream(tokenizer, (), 0, told.append)
    ids = tokenizer("So 你😀", add_special_tokens=False)["input_ids"][:-1]
    for end in range(1, len(ids) + 1):
        stream(torch.tensor([ids[:end]]), None)
    stream.finish(response_text(tokenizer, ids))
    assert "".join(told) == "So 你"


def test_bytes_that_are_no_character_are_told_in_the_end():
    stream, told = streamed("ab")
    stream.finish("ab\N{REPLACEMENT CHARACTER}")
    assert "".join(told) == "ab\N{REPLACEMENT CHARACTER}"


def test_a_generation_is_given_up_at_the_next_token_and_the_model_is_free(model):
    asked = []

    def goes_on():
        asked.append(1)
        return len(asked) < 3

    with pytest.raises(CancelledError):
        model.generate(
            ASKED, Sampling(max_tokens=100, ignore_end=True), controls=GenerationControls(goes_on=goes_on)
        )
    assert len(asked) == 3
    assert not model.model._forward_hooks
    assert model.generate(ASKED, Sampling(max_tokens=2)).text is not None


def test_what_a_listener_raises_ends_the_generation(model):
    def listen(piece):
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        model.generate(ASKED, controls=GenerationControls(on_text=listen))


def test_live_text_is_of_one_prompt(model):
    with pytest.raises(OptionError, match="one prompt"):
        model.generate_batch([ASKED, ASKED], controls=GenerationControls(on_text=print))


def test_a_long_companion_does_not_shorten_an_answer(model):
    short, long = "Hm?", "x" * 500
    sampling = Sampling(max_tokens=20, ignore_end=True)
    alone = model.generate(short, sampling)
    together = model.generate_batch([short, long], sampling)
    assert len(alone.response_ids) == len(together[0].response_ids) == 20
    assert together[0].text == alone.text
