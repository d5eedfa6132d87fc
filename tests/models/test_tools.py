"""Tools in chat templates."""

import pytest

from guardrail.errors import PromptError
from guardrail.models.prompt import encode_prompt, shows_tools
from tests.support.templates import HERMES
from tests.support.tiny import CHATML, LLAMA3, MISTRAL, tiny_tokenizer

TOOL = {
    "type": "function",
    "function": {"name": "look_up", "description": "Look it up.", "parameters": {"type": "object"}},
}
REFUSES = "{% if tools %}{{ raise_exception('no tools') }}{% endif %}{{ messages[0].content }}"


@pytest.mark.parametrize("template", [None, CHATML, LLAMA3, MISTRAL, REFUSES])
def test_a_template_that_shows_no_tools_is_known_and_tools_are_refused(template):
    tokenizer = tiny_tokenizer(template)
    assert not shows_tools(tokenizer)
    with pytest.raises(PromptError, match="shows no tools"):
        encode_prompt(tokenizer, "Who?", [TOOL])


@pytest.mark.parametrize("writes", ["{{ tool | tojson }}", "{{ tool.function.name }}"])
def test_a_template_that_shows_tools_is_known(writes):
    template = HERMES.replace("{{ tool | tojson }}", writes)
    assert shows_tools(tiny_tokenizer(template))


def test_tools_are_read_and_do_not_move_the_semantic_token():
    tokenizer = tiny_tokenizer(HERMES)
    plain, shown = encode_prompt(tokenizer, "Who?"), encode_prompt(tokenizer, "Who?", [TOOL])
    assert "look_up" in tokenizer.decode(shown.ids)
    assert "look_up" not in tokenizer.decode(plain.ids)
    assert shown.semantic_token == plain.semantic_token
