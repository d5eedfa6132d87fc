import pytest

from guardrail.errors import PromptError
from guardrail.models.prompt import encode_ids, encode_prompt, end_of_turn
from tests.tiny import CHATML, LLAMA3, MISTRAL, SPECIALS, tiny_tokenizer

FAMILIES = {
    "llama-3": (LLAMA3, ("assistant", "\n\n"), "<|eot_id|>", -4, "<|start_header_id|>"),
    "qwen": (CHATML, ("assistant",), "<|im_end|>", -3, "<|im_start|>"),
    "smollm2": (CHATML, ("ass", "istant"), "<|im_end|>", -4, "<|im_start|>"),
    "mistral": (MISTRAL, (), "</s>", -2, "?"),
}
CHATS = pytest.mark.parametrize(
    ("template", "words", "end", "position", "text"), FAMILIES.values(), ids=FAMILIES
)


def spelled(tokenizer, encoded):
    return tokenizer.decode(encoded.ids)


@CHATS
def test_the_semantic_token_is_the_first_of_the_generation_prompt(template, words, end, position, text):
    tokenizer = tiny_tokenizer(template, words, end)
    encoded = encode_prompt(tokenizer, "What is the capital of France?")
    assert encoded.semantic_token == position
    assert tokenizer.decode([encoded.ids[position]]) == text


@CHATS
def test_a_conversation_is_rendered_as_the_template_has_it(template, words, end, position, text):
    tokenizer = tiny_tokenizer(template, words, end)
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "And now?"},
    ]
    encoded = encode_prompt(tokenizer, messages)
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert spelled(tokenizer, encoded) == rendered
    assert encoded.semantic_token == position
    assert encoded.ids.count(SPECIALS.index("<s>")) == rendered.count("<s>")


def test_a_system_message_comes_before_the_question():
    tokenizer = tiny_tokenizer(CHATML, end="<|im_end|>")
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert spelled(tokenizer, encode_prompt(tokenizer, messages)).startswith("<|im_start|>system\nBe brief.")


def test_a_template_that_takes_no_system_message_says_so_in_one_sentence():
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    with pytest.raises(
        PromptError, match=r"refuses this conversation: Only user and assistant roles"
    ) as caught:
        encode_prompt(tiny_tokenizer(MISTRAL), messages)
    assert "\n" not in str(caught.value)


def test_a_base_model_takes_the_text_as_it_is():
    tokenizer = tiny_tokenizer()
    encoded = encode_prompt(tokenizer, "Once upon a time")
    assert encoded.ids == tokenizer("Once upon a time")["input_ids"]
    assert encoded.semantic_token == -1
    both = encode_prompt(
        tokenizer, [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    )
    assert spelled(tokenizer, both) == "Be brief.\n\nHi"


@pytest.mark.parametrize(
    "prompt",
    ["", "  \n", [], [{"role": "system", "content": "Be brief."}], [{"role": "user", "content": ""}]],
)
@pytest.mark.parametrize("template", [None, CHATML])
def test_an_empty_question_is_refused(prompt, template):
    with pytest.raises(PromptError, match="The question is empty"):
        encode_prompt(tiny_tokenizer(template), prompt)


@pytest.mark.parametrize(
    "message", ["Hi", {"role": "user"}, {"content": "Hi"}, {"role": "user", "content": 3}, None]
)
def test_a_malformed_message_is_named_by_its_number(message):
    with pytest.raises(PromptError, match="Message 2 is not of the form"):
        encode_prompt(tiny_tokenizer(CHATML), [{"role": "user", "content": "Hi"}, message])


def test_a_question_may_hold_what_looks_like_the_mark_or_the_template():
    tokenizer = tiny_tokenizer(MISTRAL)
    for text in ("guardrail§mark", "[/INST]", "a[INST]b"):
        encoded = encode_prompt(tokenizer, f"{text} x")
        assert tokenizer.decode([encoded.ids[encoded.semantic_token]]) == "x"


@CHATS
def test_ids_that_end_with_the_generation_prompt_have_its_semantic_token(
    template, words, end, position, text
):
    tokenizer = tiny_tokenizer(template, words, end)
    ids = encode_prompt(tokenizer, "What is it?").ids
    added = template is not MISTRAL
    assert encode_ids(tokenizer, ids).semantic_token == (position if added else -1)
    assert encode_ids(tokenizer, ids[:-1]).semantic_token == -1
    assert encode_ids(tokenizer, ids).ids == ids


def test_no_ids_are_no_prompt():
    with pytest.raises(PromptError, match="no tokens"):
        encode_ids(tiny_tokenizer(), [])


@pytest.mark.parametrize(
    ("template", "expected"), [(CHATML, "<|im_end|>"), (LLAMA3, "<|eot_id|>"), (MISTRAL, "</s>")]
)
def test_the_end_of_turn_is_the_one_that_the_template_writes(template, expected):
    tokenizer = tiny_tokenizer(template)
    ends = [SPECIALS.index(name) for name in ("</s>", "<|im_end|>", "<|eot_id|>")]
    assert tokenizer.decode([end_of_turn(tokenizer, ends)]) == expected
    assert end_of_turn(tokenizer, []) is None
    assert end_of_turn(tiny_tokenizer(), ends) is None
