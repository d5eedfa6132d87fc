import pytest

from guardrail.calibration.options import FitOptions, Shares
from guardrail.calibration.profile import Guarantee
from guardrail.errors import OptionError


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"inputs": "tea leaves"}, "inputs is 'tea leaves'; it can be auto or hybridgrad"),
        ({"calibrator": "beta"}, "calibrator is 'beta'; it can be auto or isotonic"),
        ({"seed": -1}, "seed is -1"),
        ({"shares": Shares(0.5, 0.5, 0.0)}, "shares are 0.5, 0.5, 0"),
        ({"shares": Shares(0.5, 0.5, 0.5)}, "their sum must be 1"),
        ({"shares": Shares(float("nan"), 0.5, 0.5)}, "shares are nan"),
        ({"guarantees": [Guarantee(0.0, 0.95)]}, "is impossible"),
        ({"guarantees": [Guarantee(0.05, 95)]}, "is impossible"),
    ],
)
def test_an_option_out_of_its_range_is_refused(change, said):
    with pytest.raises(OptionError, match=said):
        FitOptions(**change)
