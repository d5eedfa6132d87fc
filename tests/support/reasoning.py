"""Tiny models under the templates of published ones that reason, and what makes them say a text."""

from pathlib import Path

import torch
from transformers import LogitsProcessor

from guardrail.models.decoding import GenerationControls
from guardrail.models.local import LocalModel
from guardrail.models.replay.transformers_internals import quiet_transformers
from tests.support.chat import tiny_chat

TEMPLATES = Path(__file__).parents[1] / "data" / "templates"
CONTEXT = 2048

# The tokens that each family adds for its markers, and whether its tokenizer calls them special.
FAMILIES = {
    "qwen3": (("<think>", "</think>"), False),
    "deepseek-r1-distill": (
        ("<think>", "</think>", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>"),
        False,
    ),
    "magistral": (
        ("[THINK]", "[/THINK]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CALLS]", "[ARGS]"),
        True,
    ),
    "gpt-oss": (
        ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>", "<|constrain|>"),
        True,
    ),
}
ENDS = {"gpt-oss": ("<|return|>", "<|call|>")}
# What each writes who thinks "Hm." and answers "It is 4.".
THOUGHT = {
    "qwen3": "<think>\nHm.\n</think>\n\nIt is 4.<|im_end|>",
    "deepseek-r1-distill": "Hm.\n</think>\n\nIt is 4.<|im_end|>",
    "magistral": "[THINK]Hm.[/THINK]It is 4.<|im_end|>",
    "gpt-oss": "<|channel|>analysis<|message|>Hm.<|end|>"
    "<|start|>assistant<|channel|>final<|message|>It is 4.<|return|>",
}
# The same, that stops to write before it has thought to the end.
UNENDED = {
    "qwen3": "<think>\nIt is 4.<|im_end|>",
    "deepseek-r1-distill": "It is 4.<|im_end|>",
    "magistral": "[THINK]It is 4.<|im_end|>",
    "gpt-oss": "<|channel|>analysis<|message|>It is 4.<|return|>",
}


class Said(LogitsProcessor):
    """Makes a model say these tokens, one after the other."""

    def __init__(self, ids):
        self.ids, self.width = ids, None

    def __call__(self, input_ids, scores):
        self.width = self.width or input_ids.shape[1]
        at = min(input_ids.shape[1] - self.width, len(self.ids) - 1)
        forced = torch.full_like(scores, -torch.inf)
        forced[:, self.ids[at]] = 0
        return forced


def saying(model, text, **controls):
    """What makes one answer of a model be this text."""
    ids = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    return GenerationControls(processor=lambda _: Said(ids), **controls)


def model_under(template, tokens=(), *, special=False, ends=("<|im_end|>",), name="tiny"):
    """The tiny chat model with a template, and these tokens added."""
    model, tokenizer = tiny_chat()
    tokenizer.add_tokens(list(tokens), special_tokens=special)
    tokenizer.chat_template = template
    with quiet_transformers(), torch.random.fork_rng():
        torch.manual_seed(0)
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.config.max_position_embeddings = CONTEXT
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(list(ends))
    return LocalModel(model, tokenizer, name)


def family(name):
    """The tiny model of a family that reasons."""
    tokens, special = FAMILIES[name]
    ends = ENDS.get(name, ("<|im_end|>",))
    return model_under((TEMPLATES / f"{name}.jinja").read_text(), tokens, special=special, ends=ends)
