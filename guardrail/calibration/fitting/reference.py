"""Reference distributions: how scores were spread over answers that nothing was fitted on."""

from collections.abc import Mapping, Sequence

import numpy as np

from guardrail.calibration.reference import ReferenceDistribution

__all__ = ["distributions"]

# A quantile is told to a thousandth, and the file stays readable.
_MOST_VALUES = 1000


def distributions(scores: Sequence[Mapping[str, float]]) -> dict[str, ReferenceDistribution]:
    """The distribution of each score over these answers, by its name.

    A value that is no finite number is left out, and so is a score without any.
    """
    names = dict.fromkeys(name for one in scores for name in one)
    columns = {name: np.sort([one[name] for one in scores if name in one]) for name in names}
    finite = {name: values[np.isfinite(values)] for name, values in columns.items()}
    return {name: _distribution(values) for name, values in finite.items() if len(values)}


def _distribution(values: "np.typing.NDArray[np.float64]") -> ReferenceDistribution:
    n = len(values)
    if n > _MOST_VALUES:
        values = values[((np.arange(_MOST_VALUES) + 0.5) * n / _MOST_VALUES).astype(int)]
    return ReferenceDistribution(n=n, values=tuple(values.tolist()))
