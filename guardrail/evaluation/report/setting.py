"""What a comparison was made with: without it, its figures mean nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from guardrail.calibration.report.facts import Fact
from guardrail.calibration.report.words import counted, percent, shown, visible
from guardrail.evaluation.comparing import Comparison

__all__ = ["Setting", "setting_facts"]


@dataclass(frozen=True, slots=True)
class Setting:
    """What the answers of a comparison were made with.

    Attributes:
        questions: What the file or data set is called.
        model: The model's fingerprint as plain values.
        generation: Arguments that the answers were generated with.
        samples: How other answers were drawn, with their ``count``; None where none were.
        judge: Who said what is right.
        semantic_token: t* of gradients that name none; None for the rule of the model's chat template.
        unlabelled: Answers that nobody could judge, and that do not count.
        machine: What it ran on, in words; empty where nothing ran.
        notes: What a reader must know besides.
    """

    questions: str
    model: Mapping[str, Any]
    generation: Mapping[str, Any]
    samples: Mapping[str, Any] | None
    judge: str
    semantic_token: int | None = None
    unlabelled: int = 0
    machine: str = ""
    notes: Sequence[str] = ()

    def as_plain(self) -> dict[str, Any]:
        """The setting as values for JSON."""
        return {
            "questions": self.questions,
            "model": dict(self.model),
            "generation": dict(self.generation),
            "samples": dict(self.samples) if self.samples else None,
            "judge": self.judge,
            "semantic_token": self.semantic_token,
            "unlabelled": self.unlabelled,
            "machine": self.machine or None,
            "notes": list(self.notes),
        }


def setting_facts(setting: Setting, comparison: Comparison) -> list[Fact]:
    """A setting as labels and texts."""
    answers, right = len(comparison.correct), sum(comparison.correct)
    facts = [
        Fact("Questions", visible(setting.questions)),
        Fact("Model", visible(f"{setting.model['name']}, {setting.model['dtype']}")),
        Fact(
            "Answers",
            f"{counted(answers, 'answer')} to {counted(comparison.questions, 'question')}, "
            f"{percent(right / answers)} right; median length {comparison.tokens:g} tokens",
        ),
        Fact("Judge", visible(setting.judge)),
        Fact("Gradients", f"t* {_token(setting.semantic_token)}, sum over tokens, where none is named"),
        Fact("Generation", shown({key: value for key, value in setting.generation.items() if value})),
    ]
    if setting.unlabelled:
        facts.append(Fact("Without a label", f"{counted(setting.unlabelled, 'answer')}, which do not count"))
    if setting.samples:
        facts.append(Fact("Samples", shown({key: value for key, value in setting.samples.items() if value})))
    if setting.machine:
        facts.append(Fact("Machine", visible(setting.machine)))
    return facts


def _token(position: int | None) -> str:
    return "by the template’s rule" if position is None else f"−{-position}"
