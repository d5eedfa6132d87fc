"""What ends a response: all that the model's files say, and the end that a response was logged with."""

import json

import pytest
import torch
from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing
from transformers import LogitsProcessor

from guardrail.errors import ResponseError
from guardrail.models.decoding import GenerationControls
from guardrail.models.local import LocalModel
from guardrail.models.prompt import encode_prompt
from guardrail.models.sampling import Sampling
from guardrail.scoring.records import encode, parse_line
from tests.support.chat import tiny_chat
from tests.support.tiny import CHATML, LLAMA3, MISTRAL, SPECIALS, tiny_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")

BASE_END, END, EOT = (SPECIALS.index(name) for name in ("</s>", "<|im_end|>", "<|eot_id|>"))
PAD = SPECIALS.index("<pad>")
HELLO = tiny_tokenizer()("Hello")["input_ids"]
ENDLESS = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


def chat(named, template=CHATML, end="</s>", tokenizer=None):
    model, _ = tiny_chat()
    model.generation_config.eos_token_id = named
    return LocalModel(model, tokenizer or tiny_tokenizer(template, end=end), "tiny")


class Forced(LogitsProcessor):
    """Has a model say these tokens, and then anything, whatever it is asked."""

    def __init__(self, tokens):
        self.left = list(tokens)

    def __call__(self, input_ids, scores):
        token = self.left.pop(0) if self.left else 100
        return torch.full_like(scores, -torch.inf).index_fill_(1, torch.tensor([token]), 0.0)


def said(model, *tokens):
    told = []
    controls = GenerationControls(on_text=told.append, processor=lambda runnable: Forced(tokens))
    return model.generate("Hi", Sampling(max_tokens=12), controls=controls), "".join(told)


@pytest.mark.parametrize("named", [BASE_END, [BASE_END], [], None, [BASE_END, EOT]])
def test_a_response_ends_where_the_template_ends_a_turn_whatever_else_is_named(named):
    model = chat(named)
    assert {BASE_END, END} <= {*model.runnable.end_ids}
    assert model.encode_response("Hello") == [*HELLO, END]
    trace, told = said(model, *HELLO, END)
    assert trace.response_ids == [*HELLO, END]
    assert (trace.text, told, trace.finish_reason) == ("Hello", "Hello", "stop")


@pytest.mark.parametrize(
    ("template", "named", "closing"),
    [
        (LLAMA3, [BASE_END, EOT], EOT),
        (CHATML, [EOT, END], END),
        (CHATML.replace("<|im_end|>\n", "<|im_end|>\n\n"), BASE_END, END),
        (MISTRAL, [], BASE_END),
        (ENDLESS, [EOT], EOT),
        (ENDLESS, [], BASE_END),
    ],
)
def test_a_response_given_for_reading_is_closed_as_the_template_does_it(template, named, closing):
    model = chat(named, template)
    assert model.encode_response("Hello") == [*HELLO, closing]
    assert model.read("Hi", "Hello").finish_reason == "stop"


def test_an_end_that_is_not_special_is_no_part_of_the_text():
    tokenizer = tiny_tokenizer(CHATML.replace("im_end", "turn_end"))
    tokenizer.add_tokens([AddedToken("<|turn_end|>", special=False)])
    model, _ = tiny_chat()
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model = LocalModel(model, tokenizer, "tiny")
    end = tokenizer.convert_tokens_to_ids("<|turn_end|>")
    trace, told = said(model, *HELLO, end)
    assert trace.response_ids == [*HELLO, end]
    assert trace.text == told == "Hello"


@pytest.mark.parametrize(
    "logged", ["", "<|im_end|>", "<|im_end|>\n", "<|im_end|> <|im_end|>", "<|im_end|><pad><pad>"]
)
def test_a_logged_response_ends_once(logged):
    model = chat([BASE_END])
    assert model.encode_response(f"Hello{logged}") == [*HELLO, END]
    assert model.said(f"Hello{logged}") == "Hello"


@pytest.mark.parametrize("logged", ["</s>", "</s><|im_end|>", "</s>\n"])
def test_the_end_that_a_response_was_logged_with_is_kept(logged):
    assert chat([BASE_END]).encode_response(f"Hello{logged}", "length") == [*HELLO, BASE_END]


@pytest.mark.parametrize("text", ["Hello\n", "Hello<pad>", "Hello<|im_end|> you", "Hello<|eot_id|>"])
def test_what_is_no_end_is_text(text):
    model = chat([BASE_END])
    ids = model.encode_response(text)
    assert model.tokenizer.decode(ids) == f"{text}<|im_end|>"
    assert [token for token in ids if token < len(SPECIALS)] == [END]


@pytest.mark.parametrize(
    ("ids", "read"),
    [
        ([], []),
        ([END], [END]),
        ([END, END], [END]),
        ([END, PAD, PAD], [END]),
        ([PAD, PAD], []),
        ([END, BASE_END, PAD], [END]),
        ([END, 50, END], [END, 50, END]),
    ],
)
def test_ids_are_read_without_padding(ids, read):
    model = chat([BASE_END])
    assert model.encode_response([*HELLO, *ids]) == [*HELLO, *read]
    line = parse_line(json.dumps({"prompt_ids": [50, 51], "response_ids": [*HELLO, *ids]}))
    assert encode(model, line.request).response_ids == [*HELLO, *read]


@pytest.mark.parametrize("text", ["<|im_end|>", "<|im_end|>\n", "</s>"])
def test_an_end_alone_is_no_answer(text):
    with pytest.raises(ResponseError, match="no tokens"):
        chat([BASE_END]).read("Hi", text)


def test_a_base_model_reads_the_first_token_of_a_logged_prompt_once():
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    once = encode_prompt(tokenizer, "Once upon").ids
    assert once[0] == 1
    assert encode_prompt(tokenizer, "<s>Once upon").ids == once
    assert encode_prompt(tokenizer, "Once <s>upon").ids.count(1) == 1
