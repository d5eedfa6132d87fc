"""What LangChain asks of a model before it is asked anything: how much it reads, and what it can do."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from langchain_core.language_models.model_profile import ModelProfile

from guardrail.errors import PromptError
from guardrail.models.prompt import encode_prompt, shows_tools

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from guardrail.models.local import LocalModel

__all__ = ["count_tokens", "model_profile"]

_ANY_QUESTION = {"role": "user", "content": "a"}


def model_profile(model: "LocalModel") -> ModelProfile:
    """What a model can do, in LangChain's form; what is not known of it is left out."""
    can_hold = find_spec("llguidance") is not None
    calls = shows_tools(model.tokenizer)
    facts: dict[str, Any] = {
        "name": model.name,
        "text_inputs": True,
        "text_outputs": True,
        **{f"{kind}_{way}": False for kind in ("image", "audio", "video") for way in ("inputs", "outputs")},
        "image_url_inputs": False,
        "pdf_inputs": False,
        "image_tool_message": False,
        "pdf_tool_message": False,
        "attachment": False,
        "tool_calling": calls,
        "tool_choice": calls and can_hold,
        "tool_call_streaming": calls,
        "structured_output": can_hold,
        "temperature": True,
    }
    if (context := model.anatomy.context_length) is not None:
        # The whole window, as LangChain has it: prompt and answer share it.
        facts |= {"max_input_tokens": context, "max_output_tokens": context - 1}
    # An older core warns of keys that it does not know.
    known = ModelProfile.__annotations__.keys()
    return cast("ModelProfile", {name: value for name, value in facts.items() if name in known})


def count_tokens(
    tokenizer: "PreTrainedTokenizerBase",
    prompt: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] = (),
) -> int:
    """How many tokens the model reads of a conversation, with all that its template writes.

    What no model can be asked, such as an answer alone, is counted as a part of a conversation, and then
    rather too long than too short: ``trim_messages`` looks at such parts.
    """
    if not prompt:
        return 0
    for asked in (prompt, [*prompt, _ANY_QUESTION], [_ANY_QUESTION, *prompt]):
        try:
            return len(encode_prompt(tokenizer, asked, tools).ids)
        except PromptError:
            continue
    if len(prompt) > 1:
        return sum(count_tokens(tokenizer, [message], tools) for message in prompt)
    frame = len(encode_prompt(tokenizer, [_ANY_QUESTION], tools).ids)
    said = [str(prompt[0]["content"]), *([str(prompt[0]["tool_calls"])] if "tool_calls" in prompt[0] else [])]
    return frame + sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in said)
