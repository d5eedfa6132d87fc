import pytest

from guardrail.errors import OptionError
from guardrail.models.sampling import Sampling


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"stop": "."}, "stop takes a list"),
        ({"stop": ("a", "")}, "none of them empty"),
    ],
    ids=str,
)
def test_an_option_out_of_its_range_is_refused_by_name(option, says):
    with pytest.raises(OptionError, match=says):
        Sampling(**option)


def test_the_defaults_decode_greedily():
    assert Sampling() == Sampling(256, 0.0, 1.0, None, (), ignore_end=False)
