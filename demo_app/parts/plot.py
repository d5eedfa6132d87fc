"""Where one value lies among those of the calibration: a small histogram of plain HTML, quick to draw."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from demo_app.parts.style import text
from guardrail.calibration.reference import ReferenceDistribution

__all__ = ["Axis", "histogram"]

_BINS = 30


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis from ``low`` to ``high``, and what its ends are called.

    Attributes:
        low: Value at the left end.
        high: Value at the right end.
        ends: Words for both.
        logarithmic: Whether equal steps are equal factors; both ends are then above 0.
    """

    low: float
    high: float
    ends: tuple[str, str]
    logarithmic: bool = False

    @classmethod
    def of_score(cls, values: Sequence[float], ends: tuple[str, str]) -> "Axis":
        """One for a score that spans decades."""
        above = [value for value in values if value > 0] or [1.0]
        return cls(min(above), max(above), ends, logarithmic=True)

    def at(self, value: float) -> float:
        """Where a value lies, 0 to 1; what lies beyond an end is shown at it."""
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = log(low), log(high), log(max(value, self.low))
        return 0.5 if high <= low else min(1.0, max(0.0, (value - low) / (high - low)))


def histogram(title: str, value: float, among: ReferenceDistribution, axis: Axis, caption: str) -> str:
    """The distribution as bars, with a mark at the value; the caption says the same in words."""
    counts = [0] * _BINS
    for one in among.values:
        counts[min(int(axis.at(one) * _BINS), _BINS - 1)] += 1
    highest = max(counts) or 1
    bars = "".join(f'<i style="height:{100 * count / highest:.0f}%"></i>' for count in counts)
    mark = f'<b style="left:{100 * axis.at(value):.1f}%"></b>'
    ends = "".join(f"<span>{text(end)}</span>" for end in axis.ends)
    return (
        f'<div class="gr-plot"><div>{text(title)}</div>'
        f'<div class="gr-bars" role="img" aria-label="{text(caption)}">{bars}{mark}</div>'
        f'<div class="gr-ends" aria-hidden="true">{ends}</div>'
        f'<div class="gr-caption">{text(caption)}</div></div>'
    )
