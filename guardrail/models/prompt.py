"""From what a person asks to token ids, and where in them the semantics-preserving token stands."""

import json
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from guardrail.errors import PromptError
from guardrail.models.chat_template import check_shown, render, with_text
from guardrail.models.control_tokens import (
    Marks,
    control_tokens,
    encode_text,
    encode_with,
    without_beginnings,
)
from guardrail.models.documents import undeclared
from guardrail.models.reasoning import answer_of, reasoning_format
from guardrail.utils.json_lines import is_text, plain_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Stands for a message's text where what the template writes after it is looked for.
_MARK = "guardrail\N{SECTION SIGN}mark"
# Tokens of a prompt's end in which it may open the model's reasoning.
_TAIL = 16
_ANY_MESSAGE = {"role": "user", "content": "a"}

_ASSISTANT = ("assistant", "ai", "model")

# What was found out about a chat template by rendering it, by what was asked.
_found: "WeakKeyDictionary[PreTrainedTokenizerBase, dict[tuple[Any, ...], Any]]" = WeakKeyDictionary()

_Found = TypeVar("_Found")
Message = Mapping[str, Any]
Prompt = str | Sequence[Message]


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """Token ids of a prompt and the semantics-preserving token among them.

    Attributes:
        ids: The token ids.
        semantic_token: Its position counted from the end, −1 for the last.
        opens_reasoning: Whether the template opened the model's reasoning at its end.
    """

    ids: list[int]
    semantic_token: int
    opens_reasoning: bool = False


def encode_prompt(
    tokenizer: "PreTrainedTokenizerBase",
    prompt: Prompt,
    tools: Sequence[Mapping[str, Any]] = (),
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> EncodedPrompt:
    """Encode a question or a conversation the way the model was taught to read it.

    A text is a user's message. With a chat template the conversation is rendered by it; a base model without
    one is given the contents as they are, a blank line between messages.

    Args:
        tokenizer: The tokenizer, with its chat template.
        prompt: A question, or messages with ``role`` and ``content``.
        tools: Functions that the template is to show to the model.
        chat_template_kwargs: Further arguments of the template, such as ``enable_thinking``; they are seen
            to be some that it reads by :func:`guardrail.models.chat_template.check_chat_template_kwargs`.

    Raises:
        PromptError: Nothing was asked, a message is malformed, the template refuses the conversation, or
            shows no tools.
    """
    messages = [_answered(message) for message in _checked(prompt)]
    kwargs = chat_template_kwargs or {}
    if tools and not shows_tools(tokenizer):
        raise PromptError("The model's chat template shows no tools, so the model would not know of them.")
    if not tokenizer.chat_template:
        return EncodedPrompt(
            _base_ids(tokenizer, "\n\n".join(message["content"] for message in messages)), -1
        )
    rendered = render(tokenizer, messages, tools, kwargs, add_generation_prompt=True)
    check_shown(tokenizer, messages, tools, kwargs, rendered)
    ids = _conversation_ids(tokenizer, messages, tools, rendered, kwargs)
    _check_made_by_template(tokenizer, messages, tools, rendered, kwargs, ids)
    suffix, after = _suffix(tokenizer, messages, tools, rendered, kwargs)
    return EncodedPrompt(ids, -min(len(ids), after), reasoning_format(tokenizer).opens(suffix))


def shows_tools(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether the chat template shows tools to the model; many leave them out in silence."""
    if not tokenizer.chat_template:
        return False
    try:
        return _once(tokenizer, _find_tools_shown)
    except PromptError:
        return False


def _once(
    tokenizer: "PreTrainedTokenizerBase", find: "Callable[..., _Found]", *arguments: Hashable
) -> "_Found":
    """What ``find`` says of a tokenizer and its template, found out once; a failure is tried again."""
    known = _found.setdefault(tokenizer, {})
    key = (find, arguments, json.dumps(tokenizer.chat_template), len(tokenizer))
    if key not in known:
        known[key] = find(tokenizer, *arguments)
    found: _Found = known[key]
    return found


def _find_tools_shown(tokenizer: "PreTrainedTokenizerBase") -> bool:
    parameters = {"type": "object", "properties": {}}
    function = {"name": _MARK, "description": "a", "parameters": parameters}
    tools = [{"type": "function", "function": function}]
    rendered = render(tokenizer, [_ANY_MESSAGE], tools, add_generation_prompt=True)
    # Some templates write tools as JSON, where the mark may stand in its escaped form.
    return any(mark in rendered for mark in (_MARK, json.dumps(_MARK)[1:-1]))


def encode_ids(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int]) -> EncodedPrompt:
    """A prompt that is token ids already; t* by what the chat template adds, if the prompt ends with that."""
    if not ids:
        raise PromptError("The prompt has no tokens.")
    added = _generation_prompt_ids(tokenizer) if tokenizer.chat_template else []
    ends_with_it = bool(added) and list(ids[-len(added) :]) == added
    # The template may have been given arguments: its last words are looked at, whichever they are.
    tail = str(tokenizer.decode(list(ids[-_TAIL:]))).rstrip() if tokenizer.chat_template else ""
    form = reasoning_format(tokenizer)
    is_open = form.opens(tail) and tail.endswith(form.openings)
    return EncodedPrompt(list(ids), -len(added) if ends_with_it else -1, is_open)


def end_of_turn(tokenizer: "PreTrainedTokenizerBase", end_ids: Sequence[int]) -> int | None:
    """The token that ends an assistant's turn, by the chat template; None for a base model."""
    if not tokenizer.chat_template:
        return None
    written = written_end(tokenizer, end_ids)
    return written if written in end_ids else next(iter(end_ids), None)


def written_end(tokenizer: "PreTrainedTokenizerBase", end_ids: Sequence[int] = ()) -> int | None:
    """The token that the chat template ends an answer with; None where it writes none.

    Args:
        tokenizer: The tokenizer.
        end_ids: What is known to end a response. A template may close the answer with other tokens first.
    """
    if not tokenizer.chat_template:
        return None
    try:
        return _once(tokenizer, _find_written_end, tuple(end_ids))
    except PromptError:
        return None


def _find_written_end(tokenizer: "PreTrainedTokenizerBase", end_ids: Sequence[int]) -> int | None:
    answer = {"role": "assistant", "content": _MARK}
    closed = render(tokenizer, [_ANY_MESSAGE, answer], add_generation_prompt=False)
    after = _tokenize(tokenizer, closed.partition(_MARK)[2])
    likely = (end_ids, tokenizer.all_special_ids, control_tokens(tokenizer).ids)
    return next((token for ids in likely for token in after if token in ids), None)


def without_end(
    tokenizer: "PreTrainedTokenizerBase", text: str, end_ids: Sequence[int]
) -> tuple[str, int | None]:
    """A response without the end that it was logged with, and the token that it is; None where there is none.

    Of several ends it is the first, as a model stops there. What a batch was padded with behind it, and white
    space, goes with it.
    """
    known = tokenizer.added_tokens_decoder
    ends = {known[end].content: end for end in end_ids if end in control_tokens(tokenizer).ids}
    padding = [tokenizer.pad_token] if tokenizer.pad_token else []
    said, rest, found = text, text.rstrip(), None
    while name := next((name for name in [*ends, *padding] if rest.endswith(name)), None):
        rest = rest.removesuffix(name)
        if name in ends:
            said, found = rest, ends[name]
        rest = rest.rstrip()
    return said, found


def up_to_end(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[int], end_ids: Sequence[int]) -> list[int]:
    """A response without what a batch was padded with: more ends behind the first, padding behind that."""
    padding = {*end_ids, tokenizer.pad_token_id}
    size = len(ids)
    while size and ids[size - 1] in padding:
        size -= 1
    behind = [token for token in ids[size:] if token in end_ids]
    return [*ids[:size], *behind[:1]]


def template_tail(
    tokenizer: "PreTrainedTokenizerBase", chat_template_kwargs: Mapping[str, Any] | None = None
) -> list[int]:
    """The tokens that the chat template writes after a user's text; none for a base model."""
    if not tokenizer.chat_template:
        return []
    question = {"role": "user", "content": _MARK}
    rendered = render(tokenizer, [question], (), chat_template_kwargs or {}, add_generation_prompt=True)
    return _tokenize(tokenizer, rendered.rpartition(_MARK)[2])


def _checked(prompt: Prompt) -> list[dict[str, Any]]:
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    messages = []
    for number, message in enumerate(undeclared(with_text(prompt)), start=1):
        fields = message if isinstance(message, Mapping) else {}
        role, content = fields.get("role"), fields.get("content")
        if not isinstance(role, str) or not isinstance(content, str):
            raise PromptError(f'Message {number} is not of the form {{"role": "user", "content": "…"}}.')
        if not is_text(content):
            raise PromptError(f"Message {number} holds half of a surrogate pair, which is no character.")
        # Templates write calls of tools as JSON, and a call may hold what JSON does not.
        messages.append({**plain_json(message), "content": content})
    if not messages or not any(m["content"].strip() for m in messages if m["role"] != "system"):
        raise PromptError("The question is empty.")
    return messages


def _answered(message: dict[str, Any]) -> dict[str, Any]:
    """The message without what a model thought before it answered: that was no part of the conversation."""
    if message["role"] not in _ASSISTANT:
        return message
    return {**message, "content": answer_of(message["content"])}


def _tokenize(tokenizer: "PreTrainedTokenizerBase", rendered: str) -> list[int]:
    # The template writes the special tokens itself; adding them again would double the first one.
    return list(tokenizer(rendered, add_special_tokens=False)["input_ids"])


def _base_ids(tokenizer: "PreTrainedTokenizerBase", text: str) -> list[int]:
    """Token ids of a text for a base model, with the tokens that its tokenizer puts around every text."""
    ids = list(tokenizer(text)["input_ids"])
    plain = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    added = len(ids) - len(plain)
    before = next((at for at in range(added + 1) if ids[at : at + len(plain)] == plain), 0)
    bos = tokenizer.bos_token
    if bos and ids[:before] == [tokenizer.bos_token_id]:
        # A text that was logged with its first token has it already.
        text = text.removeprefix(bos)
    return [*ids[:before], *encode_text(tokenizer, text), *ids[before + len(plain) :]]


def _conversation_ids(
    tokenizer: "PreTrainedTokenizerBase",
    messages: list[dict[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    rendered: str,
    kwargs: Mapping[str, Any],
    behind: str = "",
) -> list[int]:
    """Token ids of a rendered conversation, or of what stands ``behind`` the last of something in it.

    No control token is made of what a message or a tool says.
    """
    marks = Marks(tokenizer, [messages, tools])
    marked = [marks.message(message) for message in messages]
    marked_tools = [marks.inside(tool) for tool in tools]
    plain = rendered.rpartition(behind)[2] if behind else rendered
    if marked != messages or marked_tools != list(tools):
        rendered = render(tokenizer, marked, marked_tools, kwargs, add_generation_prompt=True)
        text, regions = marks.read(rendered.rpartition(behind)[2] if behind else rendered)
        ids = encode_with(tokenizer, text, regions)
        if ids != _tokenize(tokenizer, text):
            return ids
    # Where nothing would be mistaken, the template has not seen marks either: some look into messages.
    return _tokenize(tokenizer, plain)


def _check_made_by_template(
    tokenizer: "PreTrainedTokenizerBase",
    messages: list[dict[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    rendered: str,
    kwargs: Mapping[str, Any],
    ids: Sequence[int],
) -> None:
    """See that no control token is made of what is left when a template takes something out of a message.

    Raises:
        PromptError: One would be.
    """
    harmless = without_beginnings(tokenizer, messages, rendered)
    harmless_tools = without_beginnings(tokenizer, list(tools), rendered)
    if harmless == messages and harmless_tools == list(tools):
        return
    other = render(tokenizer, harmless, harmless_tools, kwargs, add_generation_prompt=True)
    meant = _conversation_ids(tokenizer, harmless, harmless_tools, other, kwargs)
    known = control_tokens(tokenizer).ids
    made = Counter(filter(known.__contains__, ids)) - Counter(filter(known.__contains__, meant))
    if made:
        spelled = str(tokenizer.convert_ids_to_tokens(next(iter(made))))
        raise PromptError(
            f"The model's chat template would make the control token {spelled!r} of what a message or a tool "
            "says, by taking something out of it. Change what it says."
        )


def _suffix(
    tokenizer: "PreTrainedTokenizerBase",
    messages: list[dict[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    rendered: str,
    kwargs: Mapping[str, Any],
) -> tuple[str, int]:
    """What the template writes after the conversation, and how far from the end t* is.

    The rule is that for models that were never scanned.

    The first token that the template adds for generation; where it adds none, the last of the user's text. It
    gives the positions that arXiv 2605.04638 names for Llama-3.1, Qwen3 and Mistral-Nemo.
    """
    unprompted = render(tokenizer, messages, tools, kwargs, add_generation_prompt=False)
    if len(rendered) > len(unprompted) and rendered.startswith(unprompted):
        suffix = rendered[len(unprompted) :]
        return suffix, len(_tokenize(tokenizer, suffix))
    marked = [*messages[:-1], {**messages[-1], "content": _MARK}]
    rendered = render(tokenizer, marked, tools, kwargs, add_generation_prompt=True)
    behind = _conversation_ids(tokenizer, marked, tools, rendered, kwargs, behind=_MARK)
    return rendered.rpartition(_MARK)[2], 1 + len(behind)


def _generation_prompt_ids(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    rendered = render(tokenizer, [_ANY_MESSAGE], add_generation_prompt=True)
    unprompted = render(tokenizer, [_ANY_MESSAGE], add_generation_prompt=False)
    return _tokenize(tokenizer, rendered[len(unprompted) :]) if rendered.startswith(unprompted) else []
