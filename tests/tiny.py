"""Models of a few thousand random weights, one for each family, and tokenizers of a few hundred tokens."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.pytorch_utils import Conv1D

from guardrail.models.local import LocalModel
from guardrail.models.prompt import EncodedPrompt
from guardrail.models.quiet import quiet_transformers

WINDOW = 9


@dataclass(frozen=True)
class Family:
    """One architecture: its configuration, where its layers are, and which way its scores are computed."""

    model_type: str
    overrides: dict[str, Any] = field(default_factory=dict)
    layers: str = "model.layers"
    way: str = "short"


# Dimensions that hide nothing: odd layer count, vocabulary not a multiple of 64, grouped key heads, and a head
# size that is not hidden / heads.
COMMON = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 7,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 307,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
