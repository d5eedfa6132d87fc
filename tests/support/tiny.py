"""Models of some ten thousand random weights, one for each family, and tokenizers of a few hundred tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import nn
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.pytorch_utils import Conv1D

from guardrail.models.local import LocalModel
from guardrail.models.prompt import EncodedPrompt
from guardrail.models.replay.transformers_internals import quiet_transformers

# Nothing that hides a mistake: an odd number of layers, a vocabulary that is no multiple of 64, grouped key
# heads, a head size that is not hidden / heads, a window shorter than the prompts and the responses.
LAYERS, HIDDEN, VOCABULARY, WINDOW = 7, 24, 331, 9

NOT_REPLAYED = "its cache cannot be run again from t*"


@dataclass(frozen=True)
class Family:
    """An architecture: its configuration, where its layers are, and how its scores are to be computed.

    Attributes:
        model_type: What transformers calls it.
        overrides: What its configuration has beyond what all have in common.
        layers_path: Where its decoder layers are.
        reason: Why it is scored by the full backward; empty where the truncated one holds.
        far_reason: The same where t* lies before the columns that were kept.
        stepwise: How far token by token differs from all at once, in transformers' own arithmetic.
    """

    model_type: str
    overrides: dict[str, Any] = field(default_factory=dict)
    layers_path: str = "model.layers"
    reason: str = ""
    far_reason: str = ""
    stepwise: float = 0.0


def _sliding(*pattern: str) -> dict[str, Any]:
    types = [f"{pattern[at % len(pattern)]}_attention" for at in range(LAYERS)]
    return {"sliding_window": WINDOW, "layer_types": types}


_MIXED = ["linear_attention", "full_attention"] * 3 + ["linear_attention"]
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
_LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_MAMBA = {
    "mamba_d_state": 8,
    "mamba_n_heads": 6,
    "mamba_d_head": 8,
    "mamba_d_ssm": 48,
    "mamba_n_groups": 1,
    "mamba_expand": 2,
    "mamba_dt_rank": 4,
}
_PARTIAL = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
_OLD = {"n_embd": 24, "n_layer": LAYERS, "n_head": 4, "n_positions": 256, "n_inner": 40}

FAMILIES: dict[str, Family] = {
    "llama": Family("llama"),
    "llama-tied": Family("llama", {"tie_word_embeddings": True}),
    "qwen2": Family("qwen2"),
    "qwen3": Family("qwen3"),
    "mistral": Family("mistral", {"sliding_window": WINDOW}, far_reason=NOT_REPLAYED),
    "phi3": Family("phi3"),
    "gemma": Family("gemma"),
    "gemma2": Family("gemma2", _sliding("sliding", "full"), far_reason=NOT_REPLAYED),
    "gemma3": Family(
        "gemma3_text",
        {**_sliding("sliding", "sliding", "full"), "tie_word_embeddings": True},
        far_reason=NOT_REPLAYED,
    ),
    "olmo2": Family("olmo2"),
    "olmo3": Family("olmo3", _sliding("sliding", "full"), far_reason=NOT_REPLAYED),
    "gpt2": Family("gpt2", _OLD, "transformer.h"),
    "gpt-bigcode": Family("gpt_bigcode", _OLD, "transformer.h"),
    "gpt-neox": Family("gpt_neox", {"rotary_pct": 0.5}, "gpt_neox.layers"),
    "smollm3": Family("smollm3"),
    "qwen3-moe": Family("qwen3_moe", {**_EXPERTS, "num_experts": 4}),
    "mixtral": Family("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "granite": Family("granite", {"logits_scaling": 3.0, "residual_multiplier": 0.7}),
    "cohere": Family("cohere", {"logit_scale": 0.25}),
    "cohere2": Family(
        "cohere2", {"logit_scale": 0.25, **_sliding("sliding", "full")}, far_reason=NOT_REPLAYED
    ),
    "gpt-oss": Family(
        "gpt_oss",
        {"num_local_experts": 4, "num_experts_per_tok": 2, **_sliding("sliding", "full")},
        far_reason=NOT_REPLAYED,
    ),
    "glm4": Family("glm4", {"rope_parameters": _PARTIAL}),
    "ernie4.5": Family("ernie4_5"),
    "starcoder2": Family("starcoder2", {"sliding_window": WINDOW}, far_reason=NOT_REPLAYED),
    "exaone4": Family("exaone4", _sliding("sliding", "full"), far_reason=NOT_REPLAYED),
    "seed-oss": Family("seed_oss"),
    "phi": Family("phi", {"rope_parameters": _PARTIAL, "hidden_size": 32}),
    "stablelm": Family("stablelm"),
    "opt": Family("opt", {"ffn_dim": 40, "word_embed_proj_dim": 24}, "model.decoder.layers"),
    "bloom": Family("bloom", {"n_layer": LAYERS, "n_head": 4}, "transformer.h"),
    "falcon-alibi": Family("falcon", {"alibi": True, "multi_query": True}, "transformer.h"),
    "falcon-rotary": Family("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}, "transformer.h"),
    # Not among the verified: these are tried out first.
    "apertus": Family("apertus"),
    "gptj": Family("gptj", {**_OLD, "rotary_dim": 4}, "transformer.h"),
    "mpt": Family("mpt", {"d_model": 24, "n_layers": LAYERS, "n_heads": 4}, "transformer.blocks"),
    "deepseek-v3": Family(
        "deepseek_v3",
        {
            **_EXPERTS,
            "num_key_value_heads": 4,
            "n_routed_experts": 4,
            "n_group": 1,
            "topk_group": 1,
            "first_k_dense_replace": 1,
            "q_lora_rank": 12,
            "kv_lora_rank": 12,
            "qk_nope_head_dim": 8,
            "qk_rope_head_dim": 4,
            "v_head_dim": 8,
            "head_dim": 4,
        },
    ),
    "llama4": Family(
        "llama4_text",
        {"attention_chunk_size": WINDOW, "num_local_experts": 4, "intermediate_size_mlp": 40},
        far_reason=NOT_REPLAYED,
    ),
    # What these keep cannot be run again.
    "qwen3-next": Family(
        "qwen3_next",
        {
            **_EXPERTS,
            **_LINEAR,
            "num_experts": 4,
            "layer_types": _MIXED,
            "shared_expert_intermediate_size": 16,
        },
        reason=NOT_REPLAYED,
    ),
    "qwen3.5": Family("qwen3_5_text", {**_LINEAR, "layer_types": _MIXED}, reason=NOT_REPLAYED),
    "mamba": Family("mamba", {"state_size": 8}, "backbone.layers", NOT_REPLAYED),
    "mamba2": Family(
        "mamba2",
        {"num_heads": 6, "head_dim": 8, "state_size": 8, "n_groups": 1},
        "backbone.layers",
        NOT_REPLAYED,
    ),
    "lfm2": Family(
        "lfm2",
        {"layer_types": ["conv", "full_attention"] * 3 + ["conv"], "block_multiple_of": 8},
        reason=NOT_REPLAYED,
    ),
    "falcon-h1": Family("falcon_h1", {**_MAMBA, "lm_head_multiplier": 0.5}, reason=NOT_REPLAYED),
    "jamba": Family(
        "jamba",
        {
            **_MAMBA,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "num_experts": 4,
            "use_mamba_kernels": False,
        },
        reason=NOT_REPLAYED,
    ),
    "gemma4": Family(
        "gemma4_text",
        {
            "num_kv_shared_layers": 2,
            "global_head_dim": 8,
            "hidden_size_per_layer_input": 8,
            "vocab_size_per_layer_input": VOCABULARY,
            "num_global_key_value_heads": 2,
            **_sliding("sliding", "full"),
        },
        reason=NOT_REPLAYED,
    ),
    # Padding is not invisible to these: a batch is run one by one.
    "recurrent-gemma": Family(
        "recurrent_gemma", {"lru_width": 24, "attention_window_size": WINDOW}, reason=NOT_REPLAYED
    ),
    "trocr": Family(
        "trocr",
        {"d_model": 24, "decoder_layers": LAYERS, "decoder_attention_heads": 4, "decoder_ffn_dim": 40},
        "model.decoder.layers",
    ),
}

_COMMON = {
    "hidden_size": HIDDEN,
    "intermediate_size": 40,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def tiny_config(family: Family) -> Any:
    known = AutoConfig.for_model(family.model_type).get_text_config(decoder=True)
    fields = {*known.to_dict(), *known.attribute_map}
    values = {name: value for name, value in _COMMON.items() if name in fields}
    with quiet_transformers():
        return type(known)(**{**values, **family.overrides})


def tiny_weights(config: Any, dtype: torch.dtype = torch.float64, seed: int = 0) -> Any:
    """A model with weights large enough that every part of it has a say."""
    kept = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    with quiet_transformers(), torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            # The grouped kernel of mixtures of experts knows no float64.
            model = AutoModelForCausalLM.from_config(config, experts_implementation="eager").to(dtype)
        finally:
            torch.set_default_dtype(kept)
        with torch.no_grad():
            mapped = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Embedding | Conv1D)]
            for weight in {id(m.weight): m.weight for m in mapped}.values():
                weight.normal_(std=1.5 * HIDDEN**-0.5)
            done = {id(m.weight) for m in mapped}
            for parameter in model.parameters():
                if id(parameter) not in done:
                    parameter.add_(0.2 * torch.randn_like(parameter))
    model.generation_config.eos_token_id = None
    return model


class _Shared(NamedTuple):
    """A model that tests share, and where its weights hang: walking through its modules takes longer."""

    model: LocalModel
    weights: list[tuple[dict[str, Any], str]]
    written: int


_shared: dict[tuple[str, tuple[int, ...]], _Shared] = {}


def tiny_model(name: str, end_ids: tuple[int, ...] = ()) -> LocalModel:
    """The model of a family, in float64; the same each time, so its weights are not to be written to."""
    key = (name, end_ids)
    if key not in _shared:
        model = local(tiny_weights(tiny_config(FAMILIES[name])), name, end_ids)
        weights = [
            (module._parameters, name)
            for module in model.model.modules()
            for name, weight in module._parameters.items()
            if weight is not None
        ]
        _shared[key] = _Shared(model, weights, _written(weights))
    return _shared[key].model


def forget_written_models() -> list[str]:
    """Families whose shared weights somebody wrote to; they are made anew when they are asked for again."""
    spoiled = [key for key, shared in _shared.items() if _written(shared.weights) != shared.written]
    for key in spoiled:
        del _shared[key]
    return [name for name, _ in spoiled]


def _written(weights: list[tuple[dict[str, Any], str]]) -> int:
    """How often a weight was written to in place, as autograd counts it."""
    return sum(parameters[name]._version for parameters, name in weights)


def local(model: Any, name: str = "tiny", end_ids: Sequence[int] = (), tokenizer: Any = None) -> LocalModel:
    """A model as people hold it; nothing ends a response but ``end_ids``."""
    tokenizer = tokenizer or tiny_tokenizer(end=None)
    model.generation_config.eos_token_id = list(end_ids) or [VOCABULARY + 1]
    return LocalModel(model, tokenizer, name)


def some_ids(count: int, seed: int) -> list[int]:
    """Ordinary tokens: nothing that pads, begins or ends."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(20, VOCABULARY, (count,), generator=generator).tolist()


def some_prompt(count: int, seed: int, semantic_token: int = -4) -> EncodedPrompt:
    return EncodedPrompt(some_ids(count, seed), semantic_token)


_CASTS = {torch.Tensor.float, torch.Tensor.to, torch.Tensor.type}


class Exact(TorchFunctionMode):
    """float64 all the way: transformers' models go down to float32 for norms, softmax and recurrences.

    Without it the agreement of two computations could be told to 1e-7 only.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if not kwargs and func not in _CASTS:
            return func(*args)
        kwargs = kwargs or {}
        if args and isinstance(args[0], torch.Tensor) and args[0].dtype == torch.float64:
            if func is torch.Tensor.float:
                return args[0]
            if func in _CASTS:
                args = tuple(torch.float64 if value is torch.float32 else value for value in args)
            if kwargs.get("dtype") is torch.float32:
                kwargs = {**kwargs, "dtype": torch.float64}
        return func(*args, **kwargs)


SPECIALS = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>"]
SPECIALS += ["<|eot_id|>", "[INST]", "[/INST]"]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "<s>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}<|eot_id|>"
    "{% endfor %}{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MISTRAL = (
    "<s>{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('Only user and assistant roles') }}"
    "{% elif m.role == 'user' %}[INST]{{ m.content }}[/INST]{% else %}{{ m.content }}</s>{% endif %}"
    "{% endfor %}"
)


def tiny_tokenizer(
    template: str | None = None,
    words: Sequence[str] = ("assistant", "\n\n"),
    end: str | None = "</s>",
    pad: str = "<pad>",
) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer: special tokens, the 256 bytes, and these words with what they are merged of."""
    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    vocabulary = {special: index for index, special in enumerate(SPECIALS)}
    for character in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[character] = len(vocabulary)
    merges: list[tuple[str, str]] = []
    for word in words:
        ((spelled, _),) = level.pre_tokenize_str(word)
        for at in range(1, len(spelled)):
            pair = (spelled[:at], spelled[at])
            if "".join(pair) not in vocabulary:
                merges.append(pair)
                vocabulary["".join(pair)] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = level
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(special, special=True) for special in SPECIALS])
    with quiet_transformers():
        fast = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, bos_token="<s>", eos_token=end, pad_token=pad, padding_side="left"
        )
    fast.chat_template = template
    return fast


def byte_fallback_tokenizer(template: str | None = None, words: Sequence[str] = ("assistant",)) -> Any:
    """As Llama 2, Mistral and Gemma have theirs: words with a space before them, and bytes for the rest."""
    vocabulary = {special: index for index, special in enumerate(["<unk>", *SPECIALS])}
    for value in range(256):
        vocabulary[f"<0x{value:02X}>"] = len(vocabulary)
    space = "\N{LOWER ONE EIGHTH BLOCK}"
    for character in [space, *map(chr, range(33, 127)), "é"]:
        vocabulary[character] = len(vocabulary)
    merges: list[tuple[str, str]] = []
    for word in words:
        for at in range(1, len(word) + 1):
            pair = (f"{space}{word}"[:at], f"{space}{word}"[at])
            merges.append(pair)
            vocabulary.setdefault("".join(pair), len(vocabulary))
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(space), normalizers.Replace(" ", space)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(space, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens(
        [AddedToken(text, special=True, normalized=False) for text in ["<unk>", *SPECIALS]]
    )
    with quiet_transformers():
        fast = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            bos_token="<s>",
            eos_token="</s>",
            unk_token="<unk>",
            padding_side="left",
        )
    fast.chat_template = template
    return fast
