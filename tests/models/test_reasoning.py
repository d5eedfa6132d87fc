"""Where reasoning ends and the answer begins: in texts of any model, and in tokens of families that reason.

Published templates are those of tests/data/templates.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.errors import OptionError, ScoringError
from guardrail.models.prompt import encode_prompt
from guardrail.models.reasoning import KNOWN, answer_of, reasoning_format, split_response
from guardrail.models.sampling import Sampling
from guardrail.scoring.options import Span
from guardrail.scoring.score import score
from guardrail.scoring.segments import score_segments, sentence_spans
from tests.support.chat import tiny_chat_model
from tests.support.reasoning import FAMILIES, THOUGHT, UNENDED, family, model_under, saying
from tests.support.tiny import CHATML

pytestmark = pytest.mark.usefixtures("one_thread")

CHANNELS = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>{}<|return|>"


@pytest.mark.parametrize("markers", KNOWN, ids=lambda one: one.begin)
def test_what_stands_between_markers_is_no_part_of_the_answer(markers):
    assert answer_of(f"{markers.begin}Sydney.{markers.end} Canberra.") == "Canberra."
    assert answer_of(f" \n{markers.begin}{markers.end}Canberra.") == "Canberra."
    assert answer_of(f"Sydney.{markers.end}\nCanberra.") == "Canberra."
    split = split_response(f"{markers.begin}Sydney.")
    assert (split.answer, split.reasoning, split.is_closed) == ("", "Sydney.", False)


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("Canberra.", "Canberra."),
        ("", ""),
        ("<think></think> Canberra.", "Canberra."),
        ("<think>a</think>\n<think>b</think> c", "c"),
        ("<think>a</think> b\n<think>c</think> d", "d"),
        ("<think>a<think>b</think>c</think>d", "d"),
        ("<think>they wrote <think></think>d", "d"),
        ("<THINK>a</THINK>b", "b"),
        ("<think>He says `</think>` and\n</think>b", "b"),
        ("Canberra.\n<think>Or", ""),
        ("In HTML, `<think>` is no tag.", "In HTML, `<think>` is no tag."),
        ('A "</think>" closes it.', 'A "</think>" closes it.'),
        ("```\n<think>\na\n```\nb", "```\n<think>\na\n```\nb"),
        ("Write <think> before it.", "Write <think> before it."),
        (CHANNELS.format("Canberra."), "Canberra."),
        ("analysisHm.assistantfinalCanberra.", "Canberra."),
        ("<|channel|>analysis<|message|>Hm.", ""),
        ("<|channel|>analysis", ""),
        ("<think>é</think>你好", "你好"),
    ],
)
def test_the_answer_of_a_response_of_any_model(response, answer):
    assert answer_of(response) == answer


@given(st.text(alphabet="<>/think[THINK]|`\n ab") | st.text())
def test_an_answer_is_the_end_of_its_response_and_has_no_reasoning_left(text):
    split = split_response(text)
    assert text.endswith(split.answer)
    assert split.answer == text[split.at :]
    again = split_response(split.answer)
    assert again.answer in split.answer


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_thinks_before_it_answers(name):
    model, told = family(name), []
    trace = model.generate(
        "What is 2 + 2?", Sampling(max_tokens=40), controls=saying(model, THOUGHT[name], on_text=told.append)
    )
    assert (trace.text, trace.reasoning, trace.finish_reason) == ("It is 4.", "Hm.", "stop")
    assert "".join(trace.answer_texts).startswith("It is 4.")
    assert "".join(told) == trace.text
    read = model.read("What is 2 + 2?", trace.response_ids)
    assert (read.text, read.answer_start) == (trace.text, trace.answer_start)


@pytest.mark.parametrize("before", ["\n", " \n\n"])
def test_white_space_before_the_reasoning_is_no_piece_of_a_stream(before):
    model, told = family("qwen3"), []
    controls = saying(model, before + THOUGHT["qwen3"], on_text=told.append)
    trace = model.generate("What is 2 + 2?", Sampling(max_tokens=40), controls=controls)
    assert (trace.text, "".join(told)) == ("It is 4.", "It is 4.")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_that_never_ends_its_thoughts_gives_no_answer(name):
    model, told = family(name), []
    controls = saying(model, UNENDED[name], on_text=told.append)
    trace = model.generate("What is 2 + 2?", Sampling(max_tokens=40), controls=controls)
    assert (trace.text, trace.finish_reason, trace.has_answer, told) == ("", "reasoning_length", False, [])
    with pytest.raises(ScoringError, match="no answer to score"):
        score(model, trace)
    assert model.read("What is 2 + 2?", trace.response_ids, finish_reason="stop").finish_reason == (
        "reasoning_length"
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_reasoning_and_answer_have_budgets_of_their_own(name):
    model = family(name)
    sampling = Sampling(max_tokens=3, max_reasoning_tokens=60)
    trace = model.generate("What is 2 + 2?", sampling, controls=saying(model, THOUGHT[name]))
    assert (trace.text, trace.finish_reason) == ("It ", "length")
    assert len(trace.response_ids) - trace.answer_start == 3
    sampling = Sampling(max_tokens=40, max_reasoning_tokens=3)
    trace = model.generate("What is 2 + 2?", sampling, controls=saying(model, THOUGHT[name]))
    assert (len(trace.response_ids), trace.finish_reason) == (3, "reasoning_length")


def test_a_stop_string_ends_the_answer_and_not_the_reasoning():
    model = family("qwen3")
    controls = saying(model, "<think>\nHm. 4?\n</think>\n\nIt is. 4.<|im_end|>")
    trace = model.generate("Hi?", Sampling(max_tokens=40, stop=(".",)), controls=controls)
    assert (trace.text, trace.reasoning, trace.finish_reason) == ("It is", "Hm. 4?", "stop")


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_scored_is_the_answer_given_the_reasoning(name):
    model = family(name)
    prompt = model.encode_prompt("What is 2 + 2?")
    trace = model.generate("What is 2 + 2?", Sampling(max_tokens=40), controls=saying(model, THOUGHT[name]))
    whole = score(model, trace, release=False)
    assert [token.id for token in whole.tokens] == trace.answer_ids
    assert whole.sum_entropy == pytest.approx(sum(trace.entropies[trace.answer_start :]))
    # As a segment of a response of which nothing is reasoning.
    plain = model.read_encoded([prompt], [trace.response_ids])[0]
    plain.answer_start = 0
    span = Span(trace.answer_start, len(trace.response_ids))
    (segment,) = score_segments(model, plain, [span], whole.options)
    assert whole.hybridgrad == pytest.approx(segment.hybridgrad, rel=1e-4)
    trace.release()
    assert score(model, trace).hybridgrad == pytest.approx(whole.hybridgrad, rel=1e-4)


def test_hidden_states_and_sentences_are_of_the_answer():
    model = family("qwen3")
    text = "<think>\nOne. Two.\n</think>\n\nIt is 4. Yes.<|im_end|>"
    trace = model.generate("Hi?", Sampling(max_tokens=40), controls=saying(model, text), depths=[0.5])
    bare = model.read("Hi?", trace.response_ids, depths=[0.5])
    (here,), (there,) = trace.hidden.values(), bare.hidden.values()
    assert here.mean.tolist() == pytest.approx(there.mean.tolist(), abs=1e-5)
    spans = sentence_spans(trace)
    assert (spans[0].start, spans[-1].end, len(spans)) == (trace.answer_start, len(trace.response_ids), 2)


def test_a_users_own_markers_open_and_close_nothing():
    for name in FAMILIES:
        model = family(name)
        plain = model.encode_prompt("Hi").opens_reasoning
        for said in ("<think>", "</think>", "[THINK]", "<|channel|>analysis<|message|>", "a<think>\n"):
            assert model.encode_prompt(said).opens_reasoning == plain == (name == "deepseek-r1-distill")


def test_a_template_that_writes_an_empty_span_opens_nothing():
    model = family("qwen3").with_chat_template_kwargs({"enable_thinking": False})
    encoded = model.encode_prompt("Hi")
    assert model.tokenizer.decode(encoded.ids).endswith("<think>\n\n</think>\n\n")
    trace = model.generate("Hi", Sampling(max_tokens=40), controls=saying(model, "It is 4.<|im_end|>"))
    assert (trace.text, trace.answer_start, trace.finish_reason) == ("It is 4.", 0, "stop")


def test_reasoning_of_earlier_turns_is_not_read_again():
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "<think>secret</think>\n\nHello."},
        {"role": "user", "content": "What is 2 + 2?"},
    ]
    tokenizer = tiny_chat_model().tokenizer
    rendered = tokenizer.decode(encode_prompt(tokenizer, messages).ids)
    assert "Hello." in rendered
    assert "secret" not in rendered


def test_a_model_that_knows_no_markers_reasons_at_the_beginning_alone():
    model = tiny_chat_model()
    assert not reasoning_format(model.tokenizer).is_declared
    read = model.read("Hi", "<think>Hm.</think> It is 4.")
    assert (read.text, read.reasoning) == ("It is 4.", "Hm.")
    for text in ("Use <think> here.", "A </think> B", "x\n<think>\ny"):
        assert model.read("Hi", text).text == text
    assert model.read("Hi", "<think>Hm.").finish_reason == "reasoning_length"


def test_markers_that_are_ordinary_text_are_found_in_a_stream_with_characters_of_many_bytes():
    model = model_under(CHATML + "{# <think></think> #}")
    told = []
    controls = saying(model, "<think>é你</think>你好 <|im_end|>", on_text=told.append)
    trace = model.generate("Hi", Sampling(max_tokens=60), controls=controls)
    assert (trace.text.strip(), trace.reasoning) == ("你好", "é你")
    assert "".join(told) == trace.text


def test_a_budget_below_one_is_refused():
    with pytest.raises(OptionError, match="max_reasoning_tokens is 0"):
        Sampling(max_reasoning_tokens=0)
