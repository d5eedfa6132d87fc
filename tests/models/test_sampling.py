from dataclasses import replace

import pytest

from guardrail.errors import OptionError
from guardrail.models.sampling import Sampling
from tests.support.chat import tiny_chat_model


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"temperature": 1e-40}, "temperature is 1e-40"),
        ({"temperature": 5e-324}, "temperature is 5e-324"),
        ({"temperature": 1e300}, r"temperature is 1e\+300"),
        ({"temperature": True}, "temperature is True; give a number"),
        ({"temperature": "1"}, "temperature is '1'; give a number"),
        ({"max_tokens": True}, "max_tokens is True; give a whole number"),
        ({"max_tokens": 2.0}, "max_tokens is 2.0; give a whole number"),
        ({"seed": 2**64}, "seed is 18446744073709551616"),
        ({"seed": -(2**63) - 1}, "seed is -9223372036854775809"),
        ({"seed": 1.0}, "seed is 1.0; give a whole number"),
        ({"seed": False}, "seed is False; give a whole number"),
        ({"top_p": -0.5}, "top_p is -0.5"),
        ({"top_p": float("nan")}, "top_p is nan"),
        ({"top_p": None}, "top_p is None"),
        ({"stop": (1,)}, "stop takes a list"),
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


@pytest.mark.parametrize("seed", [0, 7, -1, 2**64 - 1, -(2**63)])
@pytest.mark.parametrize("temperature", [1e-4, 1, 1e4])
def test_what_is_taken_can_be_drawn_by(seed, temperature):
    sampling = Sampling(max_tokens=2, temperature=temperature, top_p=0.9, seed=seed)
    model = tiny_chat_model()
    assert model.generate("Who?", sampling).text == model.generate("Who?", sampling).text
    apart = sampling.drawn_apart(2**32 - 1)
    assert apart.seed != seed
    assert replace(apart, seed=seed) == sampling


def test_what_has_no_seed_has_none_apart():
    assert Sampling().drawn_apart(7) == Sampling()
