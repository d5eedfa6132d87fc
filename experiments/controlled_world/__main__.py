"""Worlds are made, learnt, asked and compared: ``python -m experiments.controlled_world --output DIR``."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

import torch

from experiments.controlled_world.asking import AskingOptions, Interview, ask
from experiments.controlled_world.facts import WorldOptions, build_world
from experiments.controlled_world.picture import draw
from experiments.controlled_world.results import measure, tables
from experiments.controlled_world.training import TrainingOptions, trained_model


def main() -> None:
    """Run the experiment, or what of it is not there yet."""
    world, training = WorldOptions(), TrainingOptions()
    parser = argparse.ArgumentParser(prog="python -m experiments.controlled_world", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="worlds, each with its own model (default 5)")
    parser.add_argument("--output", type=Path, required=True, help="folder for models and results")
    parser.add_argument("--subjects", type=int, default=world.subjects)
    parser.add_argument("--often", type=int, default=world.often)
    parser.add_argument("--rarely", type=int, default=world.rarely)
    parser.add_argument("--layers", type=int, default=training.layers)
    parser.add_argument("--width", type=int, default=training.width)
    given = parser.parse_args()
    if given.seeds < 1:
        parser.error("--seeds must be at least 1")
    # Sums in another order give other last digits, and after a thousand steps another model.
    torch.set_num_threads(1)
    world = WorldOptions(subjects=given.subjects, often=given.often, rarely=given.rarely)
    training = TrainingOptions(layers=given.layers, width=given.width)
    interviews = [_interview(seed, world, training, given.output) for seed in range(given.seeds)]
    results = measure(interviews)
    made_of = {"seeds": given.seeds, "world": asdict(world), "training": asdict(training)}
    _write(given.output / "results.json", json.dumps({"made_of": made_of, **results.as_plain()}, indent=1))
    _write(given.output / "results.md", tables(results))
    _write(given.output / "answers.jsonl", "".join(f"{line}\n" for line in _answer_lines(interviews)))
    draw(interviews, given.output / "controlled-world.png")
    print(tables(results))


def _interview(seed: int, world: WorldOptions, training: TrainingOptions, output: Path) -> Interview:
    def tell(stage: str) -> None:
        print(f"world {seed}: {stage} ({perf_counter() - began:.0f} s)", flush=True)

    began = perf_counter()
    made = build_world(world, seed)
    folder = trained_model(made, training, seed, output / "models", tell)
    return ask(made, folder, seed, AskingOptions(), tell)


def _answer_lines(interviews: list[Interview]) -> list[str]:
    """Every answer with its scores, one setting a key such as ``-1 mean``."""
    lines = []
    for interview in interviews:
        for answer in interview.answers:
            scores = {f"{s.semantic_token} {s.reduction}": dict(found) for s, found in answer.scores.items()}
            plain = {name: getattr(answer, name) for name in answer.__slots__ if name != "scores"}
            lines.append(json.dumps({**plain, "scores": scores}))
    return lines


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
