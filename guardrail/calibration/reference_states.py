"""Hidden states of a profile's answers, kept so that the traffic of an app can be compared with them.

A state is the mean over the response at one depth, the one that a probe reads. Kept are at most 500 of them,
each standardised and projected to 128 numbers of half precision: 170 kB in the file, whatever the model's
width (unprojected, 500 states would take 0.8 MB at a width of 576 and 5.5 MB at one of 4,096). Another kind
of questions was noticed as early in 128 random directions as in all 576, and later in the 24 or 48 principal
ones, which keep what the profile's own answers differ in.

Reading them loads no NumPy; projecting and comparing does.
"""

from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterable
from functools import cached_property, lru_cache
from hashlib import shake_256
from math import isfinite
from struct import unpack
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, model_validator

from guardrail.errors import CalibrationError
from guardrail.scoring.uncertainty import HiddenState, Observation, packed, unpacked
from guardrail.utils.record_store import FrozenModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LEAST_STATES", "MOST_STATES", "ReferenceStates"]


# With fewer, an epoch of bets ends before it can tell anything (see two_sample.py).
LEAST_STATES = 60
MOST_STATES = 500
# Numbers that are kept of a state; one of a narrower model is kept whole.
_WIDTH = 128
# Standard deviations: what lies further out counts as this far, so that half precision holds it.
_FURTHEST = 20.0
# Some dimensions of a model are as good as constant: a share of the mean deviation.
_SMALLEST_SCALE = 1e-3
_ROUNDING = 1e-6


class ReferenceStates(FrozenModel):
    """States of answers that nothing of a profile was fitted on.

    Attributes:
        depth: Fraction of the layers at which they were taken.
        size: Width d of the model's hidden state.
        centre: Mean of each of the d numbers over the fitting part, as little-endian float32 in base64.
        scale: Their standard deviations, likewise.
        width: How many numbers are kept of a state.
        states: The states, one after the other, as little-endian float16 in base64.
    """

    depth: Annotated[float, Field(ge=0, lt=1)]
    size: Annotated[int, Field(gt=0)]
    centre: str
    scale: str
    width: Annotated[int, Field(gt=0)]
    states: str

    @classmethod
    def of(cls, fitting: Iterable[Observation], kept: Iterable[Observation], seed: int) -> Self | None:
        """Keep states of answers; None where too few have one at the same depth.

        Args:
            fitting: Answers that say how far states vary; none of them is kept, so that those which are kept
                had no part in how they are looked at, as little as the traffic has.
            kept: Answers to keep, the certify and report parts; of more than 500, some by chance.
            seed: Seed of that choice.
        """
        import numpy as np

        every = [[one.hidden for one in some if one.hidden is not None] for some in (fitting, kept)]
        shapes = Counter((one.depth, len(one.mean)) for one in every[1])
        if not shapes:
            return None
        depth, size = shapes.most_common(1)[0][0]
        scaling, states = (
            np.array([one.mean for one in some if (one.depth, len(one.mean)) == (depth, size)])
            for some in every
        )
        if len(states) < LEAST_STATES or len(scaling) < 2 or not np.isfinite(states).all():
            return None
        if len(states) > MOST_STATES:
            chosen = np.random.default_rng([seed, 2]).choice(len(states), MOST_STATES, replace=False)
            states = states[np.sort(chosen)]
        spread = scaling.std(axis=0)
        # Among answers that are all alike but for rounding nothing says what far is.
        if not np.isfinite(spread).all() or spread.max() <= _ROUNDING * np.abs(scaling).max():
            return None
        spread = np.maximum(spread, _SMALLEST_SCALE * spread.mean())
        empty = cls.model_construct(
            depth=depth,
            size=size,
            centre=packed(scaling.mean(axis=0).tolist()),
            scale=packed(spread.tolist()),
            width=min(size, _WIDTH),
            states="",
        )
        data = empty._projected(states).astype("<f2").tobytes()
        return cls.model_validate({**empty.model_dump(), "states": b64encode(data).decode()})

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.width != min(self.size, _WIDTH):
            raise ValueError(f"of a state of {self.size} numbers {min(self.size, _WIDTH)} are kept")
        for name in ("centre", "scale"):
            numbers = unpacked(getattr(self, name))
            if len(numbers) != self.size or not all(map(isfinite, numbers)):
                raise ValueError(f"{name} must have {self.size} finite numbers")
            if name == "scale" and min(numbers) <= 0:
                raise ValueError("each scale must be above 0")
        data = self._data()
        if len(data) % (2 * self.width) or not LEAST_STATES <= self.n <= MOST_STATES:
            raise ValueError(f"{LEAST_STATES} to {MOST_STATES} states of {self.width} numbers are needed")
        if not all(map(isfinite, unpack(f"<{len(data) // 2}e", data))):
            raise ValueError("a state is not finite")
        return self

    @property
    def n(self) -> int:
        """Number of states."""
        return len(self._data()) // (2 * self.width)

    @cached_property
    def values(self) -> "NDArray[np.float64]":
        """The states (n × width)."""
        import numpy as np

        flat = np.frombuffer(self._data(), dtype="<f2").astype(np.float64)
        return flat.reshape(-1, self.width)

    def projected(self, hidden: HiddenState | None) -> "NDArray[np.float64]":
        """The state of another answer as it would be kept, rounded alike.

        Raises:
            CalibrationError: There is none, it is of another depth or width, or it is not finite.
        """
        import numpy as np

        if hidden is None:
            raise CalibrationError("No hidden state was kept for this answer; it cannot be compared.")
        if hidden.depth != self.depth or len(hidden.mean) != self.size:
            raise CalibrationError(
                f"The profile keeps states of {self.size} values at depth {self.depth:g}; this one has "
                f"{len(hidden.mean)} at depth {hidden.depth:g}."
            )
        state = np.array([hidden.mean], dtype=np.float64)
        if not np.isfinite(state).all():
            raise CalibrationError("The hidden state of this answer is not finite; it cannot be compared.")
        # Twice rounded alike, so that a classifier cannot tell them by their digits.
        rounded: NDArray[np.float64] = self._projected(state)[0].astype("<f2").astype(np.float64)
        return rounded

    def _projected(self, states: "NDArray[Any]") -> "NDArray[np.float64]":
        import numpy as np

        standard = (states - self._scaling[0]) / self._scaling[1]
        standard = np.clip(standard, -_FURTHEST, _FURTHEST) / np.sqrt(self.size)
        if self.width == self.size:
            return np.asarray(standard)
        return np.asarray(standard @ _directions(self.size, self.width))

    @cached_property
    def _scaling(self) -> "tuple[NDArray[np.float64], NDArray[np.float64]]":
        import numpy as np

        return np.array(unpacked(self.centre), float), np.array(unpacked(self.scale), float)

    def _data(self) -> bytes:
        return b64decode(self.states, validate=True)


@lru_cache(maxsize=4)
def _directions(size: int, width: int) -> "NDArray[np.float64]":
    """Random signs, the same for ever: drawn by a hash, since a generator's stream may change."""
    import numpy as np

    label = f"guardrail directions {size} {width}".encode()
    bits = np.frombuffer(shake_256(label).digest((size * width + 7) // 8), dtype=np.uint8)
    signs = 2.0 * np.unpackbits(bits)[: size * width] - 1
    return np.asarray(signs.reshape(size, width) / np.sqrt(width))
