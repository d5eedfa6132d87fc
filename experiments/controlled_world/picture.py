"""The picture of the experiment: entropy and SemGrad for what the model knows, and for what it does not."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from numpy.typing import NDArray

from experiments.controlled_world.asking import Answer, Interview, Setting

__all__ = ["draw"]

# Okabe & Ito (2008): told apart with any colour vision.
_KINDS: Mapping[str, tuple[str, Callable[[Answer], bool]]] = {
    "knows the one answer": ("#0072B2", lambda a: _told_often(a) and a.right_answers == 1),
    "knows several answers": ("#009E73", lambda a: _told_often(a) and a.right_answers > 1),
    "knows none": ("#D55E00", lambda a: a.frequency == "never" and not a.correct),
}
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": "#6b7280",
    "axes.labelcolor": "#24292f",
    "text.color": "#24292f",
    "xtick.color": "#6b7280",
    "xtick.labelcolor": "#24292f",
}


def draw(interviews: Sequence[Interview], path: Path) -> None:
    """Draw both scores' distributions, the answers of all worlds together.

    SemGrad is in units of the median over each world's answers, as models differ in scale.
    """
    with rc_context(_STYLE):
        picture = Picture(figsize=(9, 3.2), layout="constrained")
        left, right = picture.subplots(1, 2, sharey=True)
        _ridges(left, interviews, "sum_entropy", relative=False)
        _ridges(right, interviews, "semgrad", relative=True)
        left.set(
            xlabel="entropy of the answer (nats)", yticks=range(len(_KINDS)), yticklabels=list(_KINDS)[::-1]
        )
        right.set(xlabel="SemGrad (1 = median of the model's answers)")
        left.tick_params(axis="y", length=0)
        right.tick_params(axis="y", length=0)
        picture.savefig(path, dpi=160, facecolor="white")


def _told_often(answer: Answer) -> bool:
    return answer.frequency == "often" and answer.correct


def _ridges(axes: Axes, interviews: Sequence[Interview], score: str, *, relative: bool) -> None:
    values = {name: _values(interviews, wanted, score, relative) for name, (_, wanted) in _KINDS.items()}
    top = float(np.quantile(np.concatenate(list(values.values())), 0.995))
    edges = np.linspace(0, top, 61)
    middles = (edges[1:] + edges[:-1]) / 2
    for row, (name, (colour, _)) in enumerate([*_KINDS.items()][::-1]):
        if not len(values[name]):
            continue
        counts = np.histogram(values[name], edges)[0].astype(np.float64)
        smooth = np.convolve(counts, np.hanning(7) / np.hanning(7).sum(), mode="same")
        heights = row + 0.72 * smooth / max(smooth.max(), 1e-12)
        axes.fill_between(middles, row, heights, color=colour, alpha=0.75, linewidth=0)
        middle = float(np.median(values[name]))
        axes.plot([middle, middle], [row, row + 0.74], color="#24292f", linewidth=1.2)
        axes.annotate(f"{middle:.2f}", (middle, row + 0.74), ha="center", va="bottom", fontsize=8.5)
    axes.set(xlim=(0, top), ylim=(-0.05, len(_KINDS) + 0.15))


def _values(
    interviews: Sequence[Interview], wanted: Callable[[Answer], bool], score: str, relative: bool
) -> NDArray[np.float64]:
    found: list[float] = []
    for one in interviews:
        setting = Setting(one.chosen, "mean")
        scale = float(np.median([a.scores[setting][score] for a in one.answers])) if relative else 1.0
        found += [a.scores[setting][score] / scale for a in one.answers if wanted(a)]
    return np.array(found)
