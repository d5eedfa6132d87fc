"""A world whose facts we choose: how often each is told, and how many answers are right.

A fact is a subject and a relation ("Balomi", "teacher") with its right answers. Three things are crossed,
so that none gives another away:

- **frequency** of the fact in the training text: often, rarely or never. Each subject has facts of all
  three, so that nothing about the subject says whether this fact is known.
- **number of right answers**: one, or several, each told equally often. It is the fact's and not the
  relation's: no wording tells how many there are.
- **relation**: how many answers could be given at all (its pool), and whether they are single tokens or names
  of two or three.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

import numpy as np

from experiments.controlled_world.wording import HELD_OUT, TRAINING, names, question, words_of_templates

__all__ = ["FREQUENCIES", "Example", "Fact", "Frequency", "Relation", "World", "WorldOptions", "build_world"]

Frequency = Literal["often", "rarely", "never"]
FREQUENCIES: tuple[Frequency, ...] = get_args(Frequency)

# Three wordings of each relation; the first half's answers are single tokens, the second half's are names.
_RELATIONS = (
    ("colour", "shade", "hue"),
    ("animal", "beast", "creature"),
    ("dish", "meal", "food"),
    ("friend", "companion", "ally"),
    ("teacher", "mentor", "tutor"),
    ("doctor", "physician", "healer"),
)


@dataclass(frozen=True, slots=True)
class WorldOptions:
    """How a world is made.

    Attributes:
        subjects: Whom facts are about; each has one fact of every relation.
        pools: How many answers a relation has in all, for each of three; twice: single tokens, and names.
        several: Right answers of a fact that has more than one.
        often: How many times the training text tells a fact that it tells often.
        rarely: The same of one that it tells rarely.
    """

    subjects: int = 60
    pools: tuple[int, int, int] = (12, 36, 108)
    several: int = 4
    often: int = 120
    rarely: int = 20

    def times(self, frequency: Frequency) -> int:
        """How many times the training text tells such a fact."""
        return {"often": self.often, "rarely": self.rarely, "never": 0}[frequency]


@dataclass(frozen=True, slots=True)
class Relation:
    """What can be asked of a subject.

    Attributes:
        wordings: Words that mean it.
        pool: Every answer that any subject's fact may have.
        is_name: Whether the answers are names of two or three tokens, or single tokens.
    """

    wordings: tuple[str, ...]
    pool: tuple[str, ...]
    is_name: bool


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact.

    Attributes:
        id: Its number in the world.
        subject: Whom it is about.
        relation: What it says.
        frequency: How often the training text tells it.
        answers: The right answers, one or several.
    """

    id: int
    subject: str
    relation: Relation
    frequency: Frequency
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """A question about a fact, in one wording, with one answer."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class World:
    """All facts.

    Attributes:
        options: How it was made.
        relations: What can be asked.
        facts: One for every subject and relation.
    """

    options: WorldOptions
    relations: tuple[Relation, ...]
    facts: tuple[Fact, ...]

    def words(self) -> list[str]:
        """Every word of the world once, sorted."""
        found = set(words_of_templates())
        for fact in self.facts:
            found.add(fact.subject)
        for relation in self.relations:
            found.update(relation.wordings, *(answer.split() for answer in relation.pool))
        return sorted(found)

    def training_text(self, seed: int) -> list[Example]:
        """Every example that the model is trained on, once, in a random order.

        Of a fact with several answers, each is told as often as the others, within one.
        """
        rng = np.random.default_rng([seed, 1])
        examples = [
            Example(_in_some_words(fact, TRAINING, rng), fact.answers[time % len(fact.answers)])
            for fact in self.facts
            for time in range(self.options.times(fact.frequency))
        ]
        return [examples[at] for at in rng.permutation(len(examples))]

    def test_questions(self, seed: int, per_fact: int) -> Iterator[tuple[Fact, str]]:
        """Each fact asked in this many wordings whose templates training never used."""
        rng = np.random.default_rng([seed, 2])
        for fact in self.facts:
            for template in rng.permutation(len(HELD_OUT))[:per_fact]:
                yield fact, _in_some_words(fact, (HELD_OUT[template],), rng)

    def paraphrases(self, seed: int, facts: int, each: int) -> list[list[str]]:
        """Questions that mean the same, for some facts, in the templates of training."""
        rng = np.random.default_rng([seed, 3])
        chosen = rng.permutation(len(self.facts))[:facts]
        return [
            [
                _in_some_words(self.facts[at], (TRAINING[t],), rng)
                for t in rng.permutation(len(TRAINING))[:each]
            ]
            for at in chosen
        ]


def build_world(options: WorldOptions, seed: int) -> World:
    """Make a world; the same for the same options and seed.

    Frequency and number of answers are spread evenly over each relation's facts, and shuffled.
    """
    rng = np.random.default_rng([seed, 0])
    taken: set[str] = set()
    half = len(_RELATIONS) // 2
    relations = tuple(
        Relation(
            wordings, _pool(options.pools[at % half], is_name=at >= half, rng=rng, taken=taken), at >= half
        )
        for at, wordings in enumerate(_RELATIONS)
    )
    subjects = names(options.subjects, rng, taken)
    kinds = list(product(FREQUENCIES, (1, options.several)))
    facts: list[Fact] = []
    for relation in relations:
        turns = rng.permutation(np.arange(options.subjects) % len(kinds))
        for subject, turn in zip(subjects, turns, strict=True):
            frequency, count = kinds[turn]
            chosen = rng.permutation(len(relation.pool))[:count]
            answers = tuple(relation.pool[at] for at in chosen)
            facts.append(Fact(len(facts), subject, relation, frequency, answers))
    return World(options, relations, tuple(facts))


def _pool(size: int, *, is_name: bool, rng: np.random.Generator, taken: set[str]) -> tuple[str, ...]:
    """Answers of one relation: words, or names of two and three words that share their words."""
    if not is_name:
        return tuple(names(size, rng, taken))
    side = int(np.ceil(np.sqrt(size))) + 2
    first, middle, last = (names(side, rng, taken) for _ in range(3))
    pairs = list(product(first, last))
    chosen = [pairs[at] for at in rng.permutation(len(pairs))[:size]]
    return tuple(
        " ".join(pair) if at % 2 else f"{pair[0]} {middle[rng.integers(side)]} {pair[1]}"
        for at, pair in enumerate(chosen)
    )


def _in_some_words(fact: Fact, templates: tuple[str, ...], rng: np.random.Generator) -> str:
    template = templates[rng.integers(len(templates))]
    wordings = fact.relation.wordings
    return question(template, fact.subject, wordings[rng.integers(len(wordings))])
