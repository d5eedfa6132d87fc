"""A chat model of a few thousand random weights, as people have theirs: in a folder, with a chat template."""

from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from guardrail.models.local import LocalModel
from guardrail.models.replay.transformers_internals import quiet_transformers
from tests.support.tiny import CHATML, tiny_tokenizer

CONTEXT = 512
# A byte that no UTF-8 text holds: the model's weights for it can be broken without harm to any other.
BROKEN_TOKEN = 200


def tiny_chat(*, seed: int = 0, broken: bool = False) -> tuple[Any, Any]:
    """Model and tokenizer; ``broken`` makes what is read after BROKEN_TOKEN not a number."""
    tokenizer = tiny_tokenizer(CHATML, end="<|im_end|>")
    with quiet_transformers(), torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=4,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=CONTEXT,
                initializer_range=0.3,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    if broken:
        with torch.no_grad():
            model.get_input_embeddings().weight[BROKEN_TOKEN] = float("nan")
    return model, tokenizer


def tiny_chat_model(*, broken: bool = False) -> LocalModel:
    return LocalModel(*tiny_chat(broken=broken), "tiny")


def save_tiny_chat(folder: Path, *, seed: int = 0, broken: bool = False) -> Path:
    model, tokenizer = tiny_chat(seed=seed, broken=broken)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
