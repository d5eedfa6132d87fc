"""A small Llama that learns the world from nothing, kept as a folder that any program can open."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from experiments.controlled_world.facts import Example, World, WorldOptions
from guardrail.models.replay.transformers_internals import quiet_transformers

__all__ = ["TrainingOptions", "trained_model"]

_PAD, _START, _END = "<pad>", "<|im_start|>", "<|im_end|>"
# Four tokens follow the question: the end of the turn, and three that the template adds for the answer.
_TEMPLATE = (
    "{% for m in messages %}<|im_start|> {{ m.role }} : {{ m.content }} <|im_end|> {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant : {% endif %}"
)
_TEMPLATE_WORDS = ("user", "assistant", ":")
_IGNORED = -100
# Part of the key of kept models: raise it when training changes in a way that no option shows.
_VERSION = 1


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """The model and how it is trained: one pass over the training text, loss on the answers alone.

    Attributes:
        layers: Decoder layers.
        width: Hidden size d.
        heads: Attention heads.
        batch: Examples a step.
        learning_rate: Highest of the schedule: linear warm-up over a tenth, then cosine to nothing.
        weight_decay: Of AdamW.
    """

    layers: int = 6
    width: int = 128
    heads: int = 4
    batch: int = 16
    learning_rate: float = 2e-3
    weight_decay: float = 0.01


def trained_model(
    world: World,
    options: TrainingOptions,
    seed: int,
    folder: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> Path:
    """The folder of the model that learned this world; trained once, and found again by what it was made of.

    Args:
        world: The facts; made with the same seed.
        options: The model and its training.
        seed: Of the initial weights and of the order of the training text.
        folder: Where models are kept, one folder each.
        progress: Told of each hundred steps.
    """
    place = folder / _key(world.options, options, seed)
    if place.is_dir():
        return place
    tokenizer = _tokenizer(world.words())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _untrained(options, tokenizer)
        _train(model, tokenizer, world.training_text(seed), options, progress)
    # Under its own name only when it is whole: a run that was stopped leaves no half model behind.
    unfinished = place.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with quiet_transformers():
        model.save_pretrained(unfinished, safe_serialization=True)
        tokenizer.save_pretrained(unfinished)
    unfinished.rename(place)
    return place


def _key(world: WorldOptions, training: TrainingOptions, seed: int) -> str:
    made_of = {"version": _VERSION, "world": asdict(world), "training": asdict(training), "seed": seed}
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def _tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """A token for each word, and a chat template."""
    vocabulary = {word: at for at, word in enumerate((_PAD, _START, _END, *_TEMPLATE_WORDS))}
    for word in words:
        vocabulary.setdefault(word, len(vocabulary))
    # No unknown token: a word that the world does not have must fail, not pass for another.
    tokenizer = Tokenizer(models.WordLevel(vocab=vocabulary))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in (_PAD, _START, _END)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=_END, pad_token=_PAD)
    fast.chat_template = _TEMPLATE
    return fast


def _untrained(options: TrainingOptions, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=options.width,
            intermediate_size=3 * options.width,
            num_hidden_layers=options.layers,
            num_attention_heads=options.heads,
            num_key_value_heads=options.heads,
            max_position_embeddings=128,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    examples: Sequence[Example],
    options: TrainingOptions,
    progress: Callable[[str], None],
) -> None:
    encoded = [_encode(tokenizer, example) for example in examples]
    steps = math.ceil(len(encoded) / options.batch)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    model.train()
    for step in range(steps):
        ids, mask, labels = _batch(encoded[step * options.batch : (step + 1) * options.batch])
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99 or step + 1 == steps:
            progress(f"step {step + 1} of {steps}, loss {loss.item():.3f}")
    model.eval()


def _rate(step: int, steps: int) -> float:
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _encode(tokenizer: PreTrainedTokenizerFast, example: Example) -> tuple[list[int], list[int]]:
    """Token ids of the prompt, and of the answer with its end of turn."""
    messages = [{"role": "user", "content": example.question}]
    prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return (
        list(tokenizer(prompt, add_special_tokens=False)["input_ids"]),
        list(tokenizer(f"{example.answer} {_END}", add_special_tokens=False)["input_ids"]),
    )


def _batch(pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask and labels, each (examples, longest), padded on the right; labels are the answers' ids."""
    longest = max(len(prompt) + len(answer) for prompt, answer in pairs)
    ids = torch.zeros(len(pairs), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, _IGNORED)
    for row, (prompt, answer) in enumerate(pairs):
        end = len(prompt) + len(answer)
        ids[row, :end] = torch.tensor(prompt + answer)
        mask[row, :end] = 1
        labels[row, len(prompt) : end] = torch.tensor(answer)
    return ids, mask, labels
