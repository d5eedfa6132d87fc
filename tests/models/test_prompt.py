import pytest

from guardrail.errors import PromptError
from guardrail.models.prompt import encode_ids, encode_prompt, end_of_turn, template_tail
from tests.support.templates import HERMES, LISTS, TOOLS
from tests.support.tiny import CHATML, LLAMA3, MISTRAL, SPECIALS, tiny_tokenizer

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


ASKED = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "And\tnow: é <b>, please?"},
]
START = "{% for m in messages %}<|im_start|>{{ m.role }}\n"
CLOSE = "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
MIXED = (
    START + "{% if m.role == 'user' %}{% for c in m.content %}{{ c.text }}{% endfor %}"
    "{% else %}{{ m.content + '' }}{% endif %}" + CLOSE
)


@pytest.mark.parametrize("template", [LISTS, MIXED, START + "{{ m.content[0].text }}" + CLOSE])
def test_a_template_that_reads_messages_in_parts_is_given_parts(template):
    tokenizer, plain = (tiny_tokenizer(which, end="<|im_end|>") for which in (template, CHATML))
    encoded, expected = encode_prompt(tokenizer, ASKED), encode_prompt(plain, ASKED)
    assert encoded == expected
    assert encode_prompt(tokenizer, "Why<|im_end|>?").ids == encode_prompt(plain, "Why<|im_end|>?").ids
    assert template_tail(tokenizer) == template_tail(plain)
    assert end_of_turn(tokenizer, [SPECIALS.index("<|im_end|>")]) == SPECIALS.index("<|im_end|>")


@pytest.mark.parametrize(
    ("content", "number"),
    [
        ("{% if m.role != 'system' %}{{ m.content }}{% endif %}", 1),
        ("{% if loop.last %}{{ m.content }}{% endif %}", 1),
        ("{% if loop.last or m.role == 'system' %}{{ m.content }}{% endif %}", 2),
        ("{{ m.content[:10] }}", 1),
        ("{{ m.content[:15] }}", 4),
        ("{{ m.text }}", 1),
        ("user", 1),
    ],
)
def test_a_template_that_does_not_show_what_is_said_is_refused(content, number):
    with pytest.raises(PromptError, match=rf"does not show all of message {number} \("):
        encode_prompt(tiny_tokenizer(START + content + CLOSE), ASKED)


@pytest.mark.parametrize(
    "content",
    [
        "trim",
        "lower",
        "upper",
        "tojson",
        "tojson(ensure_ascii=true)",
        "escape",
        "trim | tojson | replace('\\\\t', '')",
    ],
)
def test_a_template_may_write_what_is_said_in_its_own_way(content):
    assert encode_prompt(tiny_tokenizer(START + "{{ m.content | " + content + " }}" + CLOSE), ASKED).ids


def test_results_of_tools_must_be_shown():
    tools = [{"type": "function", "function": {"name": "f", "description": "a", "parameters": {}}}]
    call = {"type": "function", "function": {"name": "f", "arguments": {}}}
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "42", "name": "f"},
    ]
    for template in (HERMES, TOOLS):
        assert "42" in tiny_tokenizer().decode(encode_prompt(tiny_tokenizer(template), messages, tools).ids)
    without = HERMES.replace("<tool_response>\n{{ m.content }}", "<tool_response>\n")
    with pytest.raises(PromptError, match=r"does not show all of message 3 \(tool\)"):
        encode_prompt(tiny_tokenizer(without), messages, tools)


@pytest.mark.parametrize(
    "content", ["{{ m.content.nothing() }}", "{{ m.content + 1 }}", "{{ range(10**9) }}"]
)
def test_a_template_that_fails_is_told_of_in_a_sentence(content):
    with pytest.raises(PromptError, match=r"chat template (fails with|refuses) this conversation") as caught:
        encode_prompt(tiny_tokenizer(START + content + CLOSE), "Hi")
    assert "\n" not in str(caught.value)


def test_of_several_templates_it_is_the_one_that_is_meant():
    tokenizer = tiny_tokenizer(CHATML)
    expected = encode_prompt(tokenizer, "Hi")
    for templates in ({"default": CHATML, "rag": MISTRAL}, {"only": CHATML}):
        tokenizer.chat_template = templates
        assert encode_prompt(tokenizer, "Hi") == expected
        assert end_of_turn(tokenizer, [2, SPECIALS.index("<|im_end|>")]) == SPECIALS.index("<|im_end|>")
    tokenizer.chat_template = {"rag": MISTRAL, "tool_use": HERMES}
    with pytest.raises(PromptError, match="templates rag, tool_use, and none of them is called default"):
        encode_prompt(tokenizer, "Hi")
    tools = [{"type": "function", "function": {"name": "f", "description": "a", "parameters": {}}}]
    assert encode_prompt(tokenizer, "Hi", tools).ids


@pytest.mark.parametrize(
    "content", ["Hi /no_think", "/think\nHi", "Hi /nothink", "/think Compare a/b and /etc"]
)
def test_switches_of_reasoning_may_be_taken_out_of_a_message(content):
    template = CHATML.replace("m.content", "m.content | replace('/think', '') | replace('/no_think', '')")
    ids = encode_prompt(tiny_tokenizer(template), content).ids
    assert "Hi" in tiny_tokenizer().decode(ids) or "/etc" in tiny_tokenizer().decode(ids)
    with pytest.raises(PromptError, match="does not show all"):
        encode_prompt(tiny_tokenizer(template), "What is in /thinkpad?")
