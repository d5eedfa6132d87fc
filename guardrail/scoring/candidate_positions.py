"""Positions at a prompt's end that may be the semantics-preserving token, and what is kept of each.

What is kept with an answer is enough to score it at another position later, without the model. Plain values:
nothing here needs torch before a model is asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from guardrail.errors import GuardrailError, PromptError
from guardrail.scoring.paraphrases import read_paraphrases
from guardrail.scoring.uncertainty import combine
from guardrail.utils.record_store import FiniteFloat

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel
    from guardrail.utils.threads import ProgressCallback

__all__ = [
    "POSITIONS",
    "CandidatePositions",
    "PreservationByPosition",
    "PromptEnd",
    "count_candidates",
    "prompt_end",
    "shipped_paraphrases",
]


# How many of a prompt's last positions are looked at.
POSITIONS = 10


@dataclass(frozen=True, slots=True)
class PreservationByPosition:
    """What paraphrases say of the positions: see :mod:`guardrail.scoring.semantic_scan`.

    Attributes:
        scores: Semantic Preservation Score at the prompt's last positions up to −1, mean over the upper half
            of the layers.
        tokens: Text of the token at each; None where it differs between prompts.
        position: The position with the highest score among those that may be chosen.
        runner_up: The next one.
        margin: By how much the first is ahead.
        low: Lower end of the margin's 95 % interval, by a bootstrap over queries.
        high: Upper end of it.
        queries: How many queries were compared.
        prompts: Their wordings.
    """

    scores: tuple[FiniteFloat, ...]
    tokens: tuple[str | None, ...]
    position: int
    runner_up: int
    margin: FiniteFloat
    low: FiniteFloat
    high: FiniteFloat
    queries: int
    prompts: int


@dataclass(frozen=True, slots=True)
class CandidatePositions:
    """What is kept with an answer, so that t* can be chosen when there are labels.

    Attributes:
        semgrad: SemGrad at the prompt's last positions, up to −1.
        among: How many of the prompt's last positions may be t*.
        expected: t* by what was known before: a scan of the model, or the rule for its chat template.
        preservation: What paraphrases say; None where the model was not asked.
    """

    semgrad: tuple[FiniteFloat, ...]
    among: int
    expected: int
    preservation: PreservationByPosition | None = None

    @property
    def candidates(self) -> range:
        """The positions that may be t*, counted from the end of the prompt: …, −2, −1."""
        return range(-min(self.among, len(self.semgrad)), 0)

    def scores_at(self, position: int, scores: Mapping[str, float]) -> dict[str, float]:
        """The scores of the answer with SemGrad, and so HybridGrad, taken at another position.

        Args:
            position: A position whose SemGrad is kept.
            scores: The answer's scores at any other.
        """
        semgrad = self.semgrad[position]
        hybridgrad = combine(semgrad, scores["paragrad"], scores["mean_entropy"])
        return {**scores, "hybridgrad": hybridgrad, "semgrad": semgrad}


class PromptEnd(NamedTuple):
    """What all prompts of a model have in common at their end.

    Attributes:
        among: How many of the last positions may be t*.
        preservation: What paraphrases say of them; None where the model cannot be asked.
    """

    among: int
    preservation: PreservationByPosition | None


def count_candidates(model: "LocalModel", most: int = POSITIONS) -> int:
    """How many of a prompt's last positions may be t*.

    They are what the chat template writes after the user's text and the text's last token: before it every
    prompt has another word at a position. A model without a template has no such end; all are candidates.

    Args:
        model: The model.
        most: How many there are at most.

    Raises:
        PromptError: The template takes no lone question.
    """
    from guardrail.models.prompt import template_tail

    tail = len(template_tail(model.tokenizer, model.chat_template_kwargs))
    return min(most, tail + 1) if tail else most


def prompt_end(model: "LocalModel", progress: "ProgressCallback | None" = None) -> PromptEnd | None:
    """Find out where t* may be in the prompts of a model, and ask it the paraphrases that ship.

    Args:
        model: The model.
        progress: Told as the paraphrases are read.

    Returns:
        What was found; None where the chat template takes no lone question.
    """
    try:
        return PromptEnd(count_candidates(model), _preservation(model, progress))
    except PromptError:
        return None


def shipped_paraphrases() -> Path:
    """The file of questions with paraphrases that ships."""
    return Path(str(files("guardrail"))) / "data" / "paraphrases.jsonl"


def _preservation(model: "LocalModel", progress: "ProgressCallback | None") -> PreservationByPosition | None:
    from guardrail.scoring.semantic_scan import readable, scan

    queries, _ = readable(model, read_paraphrases(shipped_paraphrases()).queries)
    wordings = [text for one in queries for text in (one.query, *one.paraphrases)]
    tokens = min([POSITIONS, *(len(model.encode_prompt(text).ids) for text in wordings)])
    try:
        found = scan(model, queries, tokens, progress=progress)
    except GuardrailError:
        # It informs a choice that is made by labels; what is wrong with the model is told by its answers.
        return None
    chosen = found.choice
    return PreservationByPosition(
        scores=tuple(found.upper_means.tolist()),
        tokens=found.tokens,
        position=chosen.position,
        runner_up=chosen.runner_up,
        margin=chosen.margin,
        low=chosen.low,
        high=chosen.high,
        queries=found.queries,
        prompts=found.prompts,
    )
