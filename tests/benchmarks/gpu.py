"""What the guard costs on a GPU, on full-size models with random weights (run by hand; needs CUDA).

    python tests/benchmarks/gpu.py [--models llama-3.1-8b,qwen3-4b] [--prompt-tokens 128,4096] [--json]

For each model and prompt length: medians of generation, of the guard's extra cost and of the full
backward, their extra memory, and how many times the upper half of the weights could have been read in the
time that scoring took, at the bandwidth that a copy on this device reaches. Two is the floor of a forward and
a backward pass over the upper half; outputs of linear maps that generation kept save the forward half.
"""

import argparse
import json
import time
from dataclasses import asdict

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, Qwen3Config

from guardrail.evaluation.cost import PromptCost, measure_cost
from guardrail.models.local import LocalModel

CONFIGURATIONS = {
    "llama-3.1-8b": LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=131_072,
        rms_norm_eps=1e-5,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 500_000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        bos_token_id=128_000,
        eos_token_id=128_009,
        tie_word_embeddings=False,
    ),
    "qwen3-4b": Qwen3Config(
        vocab_size=151_936,
        hidden_size=2560,
        intermediate_size=9728,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40_960,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        bos_token_id=151_643,
        eos_token_id=151_645,
        tie_word_embeddings=True,
    ),
    # Runs anywhere in seconds: for trying the script out, not for its figures.
    "tiny": LlamaConfig(
        vocab_size=512,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=1,
    ),
}


def open_random(name: str, device: str) -> LocalModel:
    """The architecture with random weights, and a tokenizer that spells ids."""
    config = CONFIGURATIONS[name]
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    words = {str(token): token for token in range(config.vocab_size)}
    spelling = Tokenizer(models.WordLevel(words, unk_token="0"))
    spelling.pre_tokenizer = pre_tokenizers.Whitespace()
    end = str(config.eos_token_id)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=spelling, eos_token=end, pad_token=end)
    return LocalModel(model, tokenizer, name)


def upper_half_bytes(model: LocalModel) -> int:
    """Bytes of the weights in the upper half of the decoder layers."""
    upper = [model.anatomy.layers[index] for index in model.anatomy.upper_half]
    return sum(weight.nbytes for layer in upper for weight in layer.parameters())


def bandwidth(device: str) -> float:
    """Bytes per second that a large copy on this device reads and writes."""
    source = torch.empty(1 << (30 if device == "cuda" else 26), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(10):
        _synchronize(device)
        began = time.perf_counter()
        target.copy_(source)
        _synchronize(device)
        seconds.append(time.perf_counter() - began)
    return 2 * source.nbytes / sorted(seconds)[len(seconds) // 2]


def _synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default="llama-3.1-8b,qwen3-4b")
    parser.add_argument("--prompt-tokens", default="128,4096")
    parser.add_argument("--answer-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.exit(2, "No CUDA device here; this benchmark is about one.\n")
    speed = bandwidth(arguments.device)
    lengths = [int(length) for length in arguments.prompt_tokens.split(",")]
    for name in arguments.models.split(","):
        model = open_random(name, arguments.device)
        report = measure_cost(model, lengths, arguments.answer_tokens, arguments.rounds)
        half = upper_half_bytes(model)
        if arguments.json:
            figures = {"upper_half_bytes": half, "bytes_per_s": speed, **asdict(report)}
            print(json.dumps(figures, default=str))
            continue
        print(f"{name}: upper half {half / 1e9:.2f} GB, copies run at {speed / 1e9:,.0f} GB/s")
        for cost in report.prompts:
            print(line(cost, half / speed))
        del model
        torch.cuda.empty_cache()


def line(cost: PromptCost, reading_s: float) -> str:
    """One prompt length in words."""
    scoring = sorted(each.score_s for each in cost.rounds)[len(cost.rounds) // 2]
    return (
        f"  {cost.prompt_tokens:>6} tokens: generation {cost.generation_s * 1e3:,.0f} ms, "
        f"guard +{cost.guard.extra_s * 1e3:,.1f} ms ({cost.guard.ratio:.1%}, {cost.guard.computation}), "
        f"full +{cost.full.extra_s * 1e3:,.0f} ms ({cost.full.ratio:.0%}), "
        f"memory +{cost.guard.peak_bytes / 2**20:,.0f} / +{cost.full.peak_bytes / 2**20:,.0f} MiB; "
        f"scoring is {scoring / reading_s:.1f} readings of the upper half"
    )


if __name__ == "__main__":
    main()
