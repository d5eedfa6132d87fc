"""All figures of the experiment, as plain values and as Markdown tables."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import mean, median
from typing import Any

from experiments.controlled_world.asking import POSITIONS, Interview, Setting
from experiments.controlled_world.facts import FREQUENCIES, Frequency
from experiments.controlled_world.figures import GROUPS, METHODS, AveragedFigure, Comparison, compare

__all__ = ["Kind", "Results", "measure", "tables"]

# What the choice of a token and of a reduction is judged on, and the methods that it matters to.
_ABLATED = ("one right answer", "several right answers", "all questions", "knows several or none")
_BY_LENGTH = tuple(name for name in GROUPS if "single tokens" in name or "names" in name)
_GRADIENTS = ("semgrad", "paragrad", "exgrad", "hybridgrad")
_WITH_TOKEN = ("semgrad", "hybridgrad")


@dataclass(frozen=True, slots=True)
class Kind:
    """What scores look like for one kind of question; medians over its answers, then means over worlds.

    Attributes:
        frequency: How often the facts were told.
        right_answers: How many are right.
        n: Answers.
        correct: Share of right ones.
        mean_entropy: Nats a token.
        sum_entropy: Nats of the whole answer.
        semgrad: In units of the median over all the world's answers, as models differ in scale.
        paragrad: The same.
    """

    frequency: Frequency
    right_answers: int
    n: int
    correct: float
    mean_entropy: float
    sum_entropy: float
    semgrad: float
    paragrad: float


@dataclass(frozen=True, slots=True)
class Results:
    """Everything measured.

    Attributes:
        worlds: How many.
        sps: Mean SPS at each position, world by world.
        chosen: t* by SPS in each world.
        by_rule: t* by the rule in each world.
        groups: Methods compared on each group; t* by SPS, loss as a mean.
        tokens: The same for each way to choose t*, on some groups.
        summed: The same with the loss as a sum.
        kinds: What scores look like.
    """

    worlds: int
    sps: Sequence[Mapping[int, float]]
    chosen: Sequence[int]
    by_rule: Sequence[int]
    groups: Mapping[str, Comparison]
    tokens: Mapping[str, Mapping[str, Comparison]]
    summed: Mapping[str, Comparison]
    kinds: Sequence[Kind]

    def as_plain(self) -> dict[str, Any]:
        """Everything by name, for JSON."""
        return asdict(self)


def measure(interviews: Sequence[Interview]) -> Results:
    """Measure everything."""
    ways: dict[str, Callable[[Interview], int]] = {
        "by SPS": lambda one: one.chosen,
        "by the rule": lambda one: one.by_rule,
        **{f"{position}": lambda _, at=position: at for position in POSITIONS},  # type: ignore[misc]
    }
    by_sps = [Setting(one.chosen, "mean") for one in interviews]
    by_sum = [Setting(one.chosen, "sum") for one in interviews]
    return Results(
        worlds=len(interviews),
        sps=[dict(one.sps) for one in interviews],
        chosen=[one.chosen for one in interviews],
        by_rule=[one.by_rule for one in interviews],
        groups=_compared(interviews, GROUPS, by_sps),
        tokens={
            way: _compared(interviews, _ABLATED, [Setting(chosen(one), "mean") for one in interviews])
            for way, chosen in ways.items()
        },
        summed=_compared(interviews, (*_ABLATED, *_BY_LENGTH), by_sum),
        kinds=[
            _kind(interviews, frequency, several=several)
            for frequency in FREQUENCIES
            for several in (False, True)
        ],
    )


def _compared(
    interviews: Sequence[Interview], groups: Iterable[str], settings: Sequence[Setting]
) -> dict[str, Comparison]:
    found = {name: compare(interviews, GROUPS[name], settings) for name in groups}
    return {name: one for name, one in found.items() if one is not None}


def _kind(interviews: Sequence[Interview], frequency: Frequency, *, several: bool) -> Kind:
    medians: dict[str, list[float]] = {}
    correct: list[bool] = []
    right = 1
    for one in interviews:
        setting = Setting(one.chosen, "mean")
        of_kind = [a for a in one.answers if a.frequency == frequency and (a.right_answers > 1) == several]
        correct += [answer.correct for answer in of_kind]
        right = of_kind[0].right_answers
        for score in ("mean_entropy", "sum_entropy", "semgrad", "paragrad"):
            value = median(answer.scores[setting][score] for answer in of_kind)
            if score.endswith("grad"):
                value /= median(answer.scores[setting][score] for answer in one.answers)
            medians.setdefault(score, []).append(value)
    means = {score: mean(values) for score, values in medians.items()}
    return Kind(frequency=frequency, right_answers=right, n=len(correct), correct=mean(correct), **means)


def tables(results: Results) -> str:
    """The figures as Markdown: AUROC in percent, 95 % intervals in brackets, ± between worlds."""
    parts = [
        f"{results.worlds} worlds, each with its own model. t* by SPS: {_counted(results.chosen)}; by the "
        f"rule: {_counted(results.by_rule)}. AUROC in percent, mean over worlds [95 % interval, facts "
        "drawn again] ± standard deviation between worlds.",
        _table(
            ("questions", "answers", "right", *(method.title for method in METHODS)),
            (
                (name, f"{_n(found):,}", f"{found.correct:.0%}", *map(_auroc, found.auroc.values()))
                for name, found in results.groups.items()
            ),
        ),
        "By how many points each is ahead of mean entropy, paired:",
        _table(
            ("questions", *(method.title for method in METHODS if method.score != "mean_entropy")),
            (
                (name, *(_ahead(one) for score, one in found.ahead.items() if score != "mean_entropy"))
                for name, found in results.groups.items()
            ),
        ),
        "What the scores are, by kind of question (medians, mean over worlds; gradients in units of the "
        "median over all answers):",
        _table(
            (
                "told",
                "right answers",
                "answers",
                "right",
                "mean entropy",
                "summed entropy",
                "SemGrad",
                "ParaGrad",
            ),
            (
                (
                    kind.frequency,
                    str(kind.right_answers),
                    f"{kind.n:,}",
                    f"{kind.correct:.0%}",
                    f"{kind.mean_entropy:.2f}",
                    f"{kind.sum_entropy:.2f}",
                    f"{kind.semgrad:.2f}",
                    f"{kind.paragrad:.2f}",
                )
                for kind in results.kinds
            ),
        ),
        "SemGrad and HybridGrad by where t* is:",
        _table(
            ("t*", "SPS", *(f"{score}: {name}" for score in _WITH_TOKEN for name in _judged(results))),
            (
                (way, _sps(results, way), *(_auroc(by[g].auroc[s]) for s in _WITH_TOKEN for g in by))
                for way, by in results.tokens.items()
            ),
        ),
        "Loss as a mean over tokens → as a sum:",
        _table(
            ("questions", *(method.title for method in METHODS if method.score in _GRADIENTS)),
            (
                (name, *(f"{_percent(results.groups[name], s)} → {_percent(found, s)}" for s in _GRADIENTS))
                for name, found in results.summed.items()
            ),
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def _judged(results: Results) -> Sequence[str]:
    return [*results.tokens["by SPS"]]


def _auroc(figure: AveragedFigure) -> str:
    spread = "one world" if figure.spread is None else f"±{100 * figure.spread:.1f}"
    return f"{100 * figure.value:.1f} [{100 * figure.low:.1f}, {100 * figure.high:.1f}] {spread}"


def _ahead(figure: AveragedFigure) -> str:
    return f"{100 * figure.value:+.1f} [{100 * figure.low:+.1f}, {100 * figure.high:+.1f}]"


def _percent(found: Comparison, score: str) -> str:
    return f"{100 * found.auroc[score].value:.1f}"


def _n(found: Comparison) -> int:
    return next(iter(found.auroc.values())).n


def _sps(results: Results, way: str) -> str:
    return f"{mean(one[int(way)] for one in results.sps):.3f}" if way.startswith("-") else ""


def _counted(positions: Sequence[int]) -> str:
    return ", ".join(f"{at} ({list(positions).count(at)}×)" for at in sorted(set(positions)))
