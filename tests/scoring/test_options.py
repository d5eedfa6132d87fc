import pytest

from guardrail.errors import OptionError
from guardrail.scoring.options import ScoringOptions


@pytest.mark.parametrize(
    ("count", "layers", "expected"),
    [
        (30, "upper", range(15, 30)),
        (7, "upper", range(4, 7)),
        (7, "lower", range(4)),
        (7, "last", range(6, 7)),
        (7, "all", range(7)),
        (2, "upper", range(1, 2)),
    ],
)
def test_layers_by_name(count, layers, expected):
    assert ScoringOptions(layers=layers).layer_indices(count) == expected


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"reduction": "max"}, "reduction is 'max'; it can be mean or sum"),
        ({"norm": "l3"}, "norm is 'l3'; it can be l1 or l2"),
        ({"layers": "middle"}, "it can be upper or lower or last or all"),
        ({"computation": "fast"}, "it can be truncated or full"),
        ({"semantic_token": 0}, "counts from the end of the prompt"),
        ({"semantic_token": 3}, "counts from the end of the prompt"),
    ],
    ids=str,
)
def test_an_option_out_of_its_range_is_refused_by_name(option, says):
    with pytest.raises(OptionError, match=says):
        ScoringOptions(**option)
