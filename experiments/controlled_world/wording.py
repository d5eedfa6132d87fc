"""How the world's questions are worded: templates to train on, others to test on, and made-up names."""

import numpy as np

__all__ = ["HELD_OUT", "TRAINING", "names", "question", "words_of_templates"]

TRAINING = (
    "name a {relation} of {subject}",
    "who knows a {relation} of {subject} ?",
    "what is the {relation} of {subject} ?",
    "tell me the {relation} that {subject} has",
    "which {relation} does {subject} have ?",
    "{subject} has which {relation} ?",
    "for {subject} , give me a {relation}",
    "please say what {relation} there is for {subject}",
)
# Of words that stand in the others too: the model knows each, and never saw them in this order.
HELD_OUT = (
    "please tell me a {relation} of {subject}",
    "give me the {relation} that {subject} has",
    "for {subject} , what is the {relation} ?",
    "say which {relation} {subject} does have",
)

_ONSETS = ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z")
_VOWELS = ("a", "e", "i", "o", "u")


def question(template: str, subject: str, relation: str) -> str:
    """A question by its template."""
    return template.format(subject=subject, relation=relation)


def words_of_templates() -> set[str]:
    """Every word of the templates."""
    return {word for template in (*TRAINING, *HELD_OUT) for word in question(template, "", "").split()}


def names(count: int, rng: np.random.Generator, taken: set[str]) -> list[str]:
    """Made-up words of two or three syllables, none of them taken; they are taken then."""
    found: list[str] = []
    while len(found) < count:
        syllables = (rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(rng.integers(2, 4)))
        word = "".join(syllables).capitalize()
        if word not in taken:
            taken.add(word)
            found.append(word)
    return found
