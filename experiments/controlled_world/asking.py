"""A trained model is asked, its answers are judged by the world, and scored by guardrail."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import guardrail
from experiments.controlled_world.facts import Fact, Frequency, World
from guardrail.scoring.options import Reduction
from guardrail.scoring.paraphrases import ParaphrasedQuery
from guardrail.scoring.semantic_scan import scan

__all__ = ["POSITIONS", "Answer", "AskingOptions", "Interview", "Setting", "ask"]

# The last token of the question, the end of its turn, and the three tokens that the template adds.
POSITIONS = (-5, -4, -3, -2, -1)


class Setting(NamedTuple):
    """A way of scoring: where t* is, counted from the end of the prompt, and how the loss is reduced."""

    semantic_token: int
    reduction: Reduction


@dataclass(frozen=True, slots=True)
class AskingOptions:
    """How a model is asked.

    Attributes:
        wordings: Wordings in which each fact is asked, none of a template that training used.
        scanned: Facts whose paraphrases, in the wordings of training, choose t* by SPS.
        paraphrases: Wordings of each of them.
        batch: Questions at once.
        max_tokens: Longest answer; the world's longest has four tokens with its end.
    """

    wordings: int = 4
    scanned: int = 100
    paraphrases: int = 5
    batch: int = 120
    max_tokens: int = 6


@dataclass(frozen=True, slots=True)
class Answer:
    """One greedy answer, judged and scored.

    Attributes:
        seed: Which world and model.
        fact: The fact's number in it.
        frequency: How often the fact was told.
        right_answers: How many answers are right.
        pool: How many the relation has in all.
        is_name: Whether they are names of several tokens.
        question: What was asked.
        response: What the model said.
        correct: Whether that is one of the right answers.
        scores: guardrail's scores by their names, by setting.
    """

    seed: int
    fact: int
    frequency: Frequency
    right_answers: int
    pool: int
    is_name: bool
    question: str
    response: str
    correct: bool
    scores: Mapping[Setting, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Interview:
    """Everything that one model was asked.

    Attributes:
        seed: Which world and model.
        sps: Mean SPS over the upper half of the layers, by position.
        chosen: t* by SPS.
        by_rule: t* by the rule for models that were never scanned.
        answers: Its answers.
    """

    seed: int
    sps: Mapping[int, float]
    chosen: int
    by_rule: int
    answers: Sequence[Answer]


def ask(
    world: World,
    folder: Path,
    seed: int,
    options: AskingOptions,
    progress: Callable[[str], None] = lambda _: None,
) -> Interview:
    """Ask a model about every fact of its world.

    Args:
        world: The facts.
        folder: The model that was trained on them.
        seed: Which wordings are drawn.
        options: How to ask.
        progress: Told of each batch.
    """
    model = guardrail.LocalModel.load(str(folder))
    queries = [
        ParaphrasedQuery(first, tuple(others))
        for first, *others in world.paraphrases(seed, options.scanned, options.paraphrases)
    ]
    found = scan(model, queries, len(POSITIONS), batch_size=options.batch, seed=seed)
    settings = [Setting(position, "mean") for position in POSITIONS]
    settings += [Setting(position, "sum") for position in {found.choice.position, found.rule, -1}]
    asked = list(world.test_questions(seed, options.wordings))
    answers: list[Answer] = []
    for start in range(0, len(asked), options.batch):
        answers += _answers(model, asked[start : start + options.batch], seed, settings, options.max_tokens)
        progress(f"{len(answers)} of {len(asked)} questions")
    sps = {position: float(found.upper_means[position]) for position in POSITIONS}
    return Interview(seed, sps, found.choice.position, found.rule, answers)


def _answers(
    model: guardrail.LocalModel,
    asked: Sequence[tuple[Fact, str]],
    seed: int,
    settings: Sequence[Setting],
    max_tokens: int,
) -> list[Answer]:
    traces = model.generate_batch(
        [question for _, question in asked], guardrail.Sampling(max_tokens=max_tokens)
    )
    scored = {
        setting: guardrail.score_batch(
            model,
            traces,
            guardrail.ScoringOptions(semantic_token=setting.semantic_token, reduction=setting.reduction),
            release=setting == settings[-1],
        )
        for setting in settings
    }
    return [
        Answer(
            seed=seed,
            fact=fact.id,
            frequency=fact.frequency,
            right_answers=len(fact.answers),
            pool=len(fact.relation.pool),
            is_name=fact.relation.is_name,
            question=question,
            response=trace.text.strip(),
            correct=trace.text.strip() in fact.answers,
            scores={setting: scored[setting][row].scores() for setting in settings},
        )
        for row, ((fact, question), trace) in enumerate(zip(asked, traces, strict=True))
    ]
