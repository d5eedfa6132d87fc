"""The Semantic Preservation Score of every layer and position, and the position that it chooses.

docs/explanation/method.md, "Where the meaning is", defines it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from guardrail.errors import OptionError, PromptError
from guardrail.models.forward import prompt_states
from guardrail.scoring.candidate_positions import POSITIONS, count_candidates
from guardrail.scoring.paraphrases import ParaphrasedQuery
from guardrail.utils.threads import report

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel
    from guardrail.utils.threads import ProgressCallback

__all__ = ["DEFAULT_TOKENS", "LEVEL", "Choice", "QueryStates", "Scan", "choose", "preservation", "scan"]


Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class QueryStates:
    """What all similarities follow from: the directions of each query's wordings, summed up.

    With u = h/‖h‖ for each of a query's n wordings and m their mean, the mean cosine similarity of two
    different wordings is (n²‖m‖² − n) / (n(n − 1)), and that between two queries is m · m'. The wordings
    themselves need not be kept.

    Attributes:
        means: m of each query, layer and position (Q × L × N × d).
        within: Mean cosine similarity of a query's wordings (Q × L × N).
    """

    means: Array
    within: Array

    @classmethod
    def of(cls, sums: Array, counts: NDArray[np.int64]) -> "QueryStates":
        """From sums of directions (Q × L × N × d) and the number of each query's wordings (Q), all ≥ 2."""
        n = counts[:, None, None].astype(np.float64)
        within = (np.einsum("qlnd,qlnd->qln", sums, sums) - n) / (n * (n - 1))
        return cls(sums / n[..., None], within)


def preservation(states: QueryStates, weights: Array | None = None) -> Array:
    """SPS of every layer and position, each query counting the same.

    Args:
        states: Of Q ≥ 2 queries.
        weights: How often each query counts, for each of B samples (B × Q), as a bootstrap draws them; copies
            of a query are never different queries. Once each if not given.

    Returns:
        SPS, from −2 to 2 (L × N; B × L × N with weights).
    """
    means, within = states.means, states.within
    given = np.ones((1, len(means))) if weights is None else weights
    squared = np.einsum("qlnd,qlnd->qln", means, means)
    scores = np.empty((len(given), *within.shape[1:]))
    total = given.sum(1)
    pairs = (total**2 - (given**2).sum(1))[:, None]
    for layer in range(within.shape[1]):
        # Layer by layer: the weighted sums of all at once would be B × L × N × d.
        summed = np.tensordot(given, means[:, layer], axes=1)
        apart = np.einsum("bnd,bnd->bn", summed, summed) - given**2 @ squared[:, layer]
        scores[:, layer] = given @ within[:, layer] / total[:, None] - apart / pairs
    return scores[0] if weights is None else scores


LEVEL = 0.95
_SAMPLES = 1000
# Samples drawn at once: their sums are held together.
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Choice:
    """The position with the highest SPS in the upper half of the layers.

    Positions count from the end of the prompt, −1 for its last token.

    Attributes:
        position: The chosen one.
        score: Its mean SPS over the upper half.
        runner_up: The position next to it in score.
        margin: By how much the chosen one is ahead.
        low: Lower end of the margin's 95 % interval, by a bootstrap over queries.
        high: Upper end of it.
        wins: Share of the bootstrap's samples that each candidate won, by position.
    """

    position: int
    score: float
    runner_up: int
    margin: float
    low: float
    high: float
    wins: dict[int, float]


def choose(states: QueryStates, upper: slice, candidates: slice, seed: int = 0) -> Choice:
    """Choose among positions by their mean SPS over some layers, and draw the queries again a thousand times.

    Args:
        states: Of Q queries (… × L × N …).
        upper: The layers, normally the upper half.
        candidates: Which of the N positions may be chosen; two of them at least.
        seed: What the samples are drawn by.
    """
    count = states.within.shape[2]
    positions = np.arange(-count, 0)[candidates]
    some = QueryStates(states.means[:, upper, candidates], states.within[:, upper, candidates])
    scores = preservation(some).mean(0)
    # Among equals the one nearest to the answer.
    order = len(scores) - 1 - np.argsort(-scores[::-1], kind="stable")
    best, second = int(order[0]), int(order[1])
    drawn = _resampled(some, seed)
    winners = drawn.shape[1] - 1 - drawn[:, ::-1].argmax(1)
    margins = drawn[:, best] - drawn[:, second]
    low, high = np.quantile(margins, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    won = np.bincount(winners, minlength=len(scores)) / len(drawn)
    return Choice(
        position=int(positions[best]),
        score=float(scores[best]),
        runner_up=int(positions[second]),
        margin=float(scores[best] - scores[second]),
        low=float(low),
        high=float(high),
        wins=dict(zip(positions.tolist(), won.tolist(), strict=True)),
    )


def _resampled(states: QueryStates, seed: int) -> NDArray[np.float64]:
    """Mean SPS over the layers in each sample of queries drawn with replacement (samples × positions)."""
    queries = len(states.means)
    drawn = np.random.default_rng(seed).multinomial(queries, [1 / queries] * queries, size=_SAMPLES)
    # A sample of one query alone has no different queries to compare.
    weights = drawn[(drawn > 0).sum(1) > 1].astype(np.float64)
    parts = (weights[at : at + _AT_ONCE] for at in range(0, len(weights), _AT_ONCE))
    return np.concatenate([preservation(states, part).mean(1) for part in parts])


DEFAULT_TOKENS = POSITIONS


@dataclass(frozen=True, slots=True)
class Scan:
    """Where a model's prompts preserve their meaning.

    Attributes:
        model: Name of the model.
        scores: SPS of each layer's input at each of the last N positions (L × N); column −1 is the last.
        tokens: Text of the token at each position; None where it differs between prompts.
        upper_half: First of the layers that count for the choice.
        rule: Position of t* by the rule for models that were never scanned.
        choice: The chosen position, among what the template writes and the user's last token.
        overall: The same among all N positions, those within the user's text too.
        queries: How many queries were compared.
        prompts: Their wordings.
        seconds: Wall time of the scan.
    """

    model: str
    scores: NDArray[np.float64]
    tokens: tuple[str | None, ...]
    upper_half: int
    rule: int
    choice: Choice
    overall: Choice
    queries: int
    prompts: int
    seconds: float

    @property
    def upper_means(self) -> NDArray[np.float64]:
        """Mean SPS of each position over the upper half of the layers (N)."""
        means: NDArray[np.float64] = self.scores[self.upper_half :].mean(axis=0)
        return means

    @property
    def positions(self) -> range:
        """The positions, −N … −1."""
        return range(-len(self.tokens), 0)

    def as_plain(self, choice: Choice) -> dict[str, Any]:
        """Everything by name, for JSON; ``choice`` is the one that counts."""
        means = self.upper_means
        return {
            "model": self.model,
            "semantic_token": {"position": choice.position, "text": self.tokens[choice.position]},
            "choice": {**asdict(choice), "wins": {str(at): share for at, share in choice.wins.items()}},
            "overall": self.overall.position,
            "rule": self.rule,
            "upper_half": self.upper_half,
            "positions": [
                {
                    "position": position,
                    "text": self.tokens[position],
                    "upper_half": float(means[position]),
                    "layers": self.scores[:, position].tolist(),
                }
                for position in self.positions
            ],
            "queries": self.queries,
            "prompts": self.prompts,
            "seconds": self.seconds,
        }


def scan(
    model: "LocalModel",
    queries: Sequence[ParaphrasedQuery],
    tokens: int = DEFAULT_TOKENS,
    *,
    batch_size: int = 16,
    seed: int = 0,
    progress: "ProgressCallback | None" = None,
) -> Scan:
    """Read every wording of every query, and compare what the model makes of them.

    Positions count from the end of the prompt, so that every prompt has the same template token at a
    position. Within the user's text there is another word at a position of every prompt; wordings of one
    query often end in the same words, and are alike there for that alone. So the choice is among what the
    template writes after the text, and the text's last token (t* of Mistral-Nemo); for a model without a
    template, among all.

    Args:
        model: The model.
        queries: Questions with paraphrases; those without one are passed over.
        tokens: How many of the prompt's last positions are compared, N ≥ 2.
        batch_size: Most prompts that the model reads at once.
        seed: What the samples of the bootstrap are drawn by.
        progress: Told after each batch.

    Raises:
        OptionError: Fewer than 2 queries have a paraphrase, or N is less than 2 or more than the shortest
            prompt has.
        PromptError: A prompt cannot be encoded, or is longer than the model reads.
        GenerationError: A hidden state is not a number.
    """
    began = perf_counter()
    usable = [query for query in queries if query.paraphrases]
    if len(usable) < 2:
        raise OptionError(
            f"{len(usable) or 'None'} of the queries has paraphrases, and at least 2 must: what paraphrases "
            "have in common is compared between queries."
        )
    encoded = [model.encode_prompt(text) for query in usable for text in (query.query, *query.paraphrases)]
    prompts = [prompt.ids for prompt in encoded]
    _check(model, prompts, tokens)
    owners = np.repeat(np.arange(len(usable)), [1 + len(query.paraphrases) for query in usable])
    states = _query_states(model, prompts, owners, tokens, batch_size, progress)
    upper = slice(model.anatomy.upper_half[0], None)
    candidates = count_candidates(model, tokens)
    return Scan(
        model=model.name,
        scores=preservation(states),
        tokens=_texts(model, prompts, tokens),
        upper_half=model.anatomy.upper_half[0],
        rule=encoded[0].semantic_token,
        choice=choose(states, upper, slice(-candidates, None), seed),
        overall=choose(states, upper, slice(None), seed),
        queries=len(usable),
        prompts=len(prompts),
        seconds=perf_counter() - began,
    )


def readable(
    model: "LocalModel", queries: Sequence[ParaphrasedQuery]
) -> tuple[list[ParaphrasedQuery], list[tuple[str, PromptError]]]:
    """The queries that the model can read in every wording; and the others, with what is wrong with each."""
    fine: list[ParaphrasedQuery] = []
    refused: list[tuple[str, PromptError]] = []
    for query in queries:
        try:
            for text in (query.query, *query.paraphrases):
                _check_length(model, len(model.encode_prompt(text).ids))
        except PromptError as error:
            refused.append((query.query, error))
        else:
            fine.append(query)
    return fine, refused


def _query_states(
    model: "LocalModel",
    prompts: Sequence[Sequence[int]],
    owners: NDArray[np.int64],
    tokens: int,
    batch_size: int,
    progress: "ProgressCallback | None",
) -> QueryStates:
    sums: Any = 0.0
    counts, done = np.bincount(owners), 0
    report(progress, "reading the wordings", 0, len(prompts))
    for indices, states in prompt_states(model, prompts, tokens, batch_size):
        directions = _directions(states)
        if not done:
            sums = np.zeros((len(counts), *directions.shape[1:]))
        np.add.at(sums, owners[indices], directions)
        done += len(indices)
        report(progress, "reading the wordings", done, len(prompts))
    return QueryStates.of(sums, counts)


def _directions(states: Tensor) -> NDArray[np.float64]:
    """h/‖h‖ (… × d), in float64: template tokens are so alike that float32 would lose their differences."""
    wide = states.double()
    directions: NDArray[np.float64] = (wide / wide.norm(dim=-1, keepdim=True).clamp_min(1e-30)).numpy()
    return directions


def _check(model: "LocalModel", prompts: Sequence[Sequence[int]], tokens: int) -> None:
    lengths = [len(ids) for ids in prompts]
    if tokens < 2:
        raise OptionError(f"tokens is {tokens}; positions are compared, so there must be at least 2.")
    if min(lengths) < tokens:
        raise OptionError(
            f"tokens is {tokens}, and the shortest prompt has {min(lengths)}. Compare fewer positions, or "
            "leave out short questions."
        )
    _check_length(model, max(lengths))


def _check_length(model: "LocalModel", tokens: int) -> None:
    context = model.anatomy.context_length
    if context is not None and tokens > context:
        raise PromptError(f"A prompt has {tokens:,} tokens, and {model.name} reads {context:,}.")


def _texts(model: "LocalModel", prompts: Sequence[Sequence[int]], tokens: int) -> tuple[str | None, ...]:
    at_each = [{ids[position] for ids in prompts} for position in range(-tokens, 0)]
    return tuple(str(model.tokenizer.decode([*ids])) if len(ids) == 1 else None for ids in at_each)
