import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.policy.messages import PLACEHOLDERS, check_message, render_message, rendered_but_for_ticket

VALUES = {
    "confidence": 0.4321,
    "hybridgrad": 0.00123456,
    "quantile_hybridgrad": 0.25,
    "tokens": 1234,
    "rule": "unsure",
    "finish_reason": None,
}


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("As it is.", "As it is."),
        ("{confidence:.0%} sure", "43% sure"),
        ("{confidence}", "0.432"),
        ("{hybridgrad}, {hybridgrad:.1e}, {hybridgrad:.4f}", "0.00123, 1.2e-03, 0.0012"),
        ("{quantile_hybridgrad:%}", "25.000000%"),
        ("{tokens:,}", "1,234"),
        ("by {rule}", "by unsure"),
        ("{semgrad:.2f} and {finish_reason}", "unknown and unknown"),
        ("{{confidence}} {{{rule}}}", "{confidence} {unsure}"),
        ("Zuversicht: {confidence:.0%} — «{rule}»", "Zuversicht: 43% — «unsure»"),
    ],
)
def test_a_message_is_filled_in(template, shown):
    assert render_message(check_message(template), VALUES) == shown


def test_a_ticket_is_filled_in_once_there_is_one_and_nothing_else_then():
    template = check_message("{{a}} {rule}: {confidence:.0%}, {hybridgrad}, {ticket} {{ticket}}")
    left = rendered_but_for_ticket(template, {**VALUES, "rule": "{ticket}"})
    assert render_message(left, {"ticket": "ab12", "rule": "other"}) == (
        "{a} {ticket}: 43%, 0.00123, ab12 {ticket}"
    )
    assert render_message(left, {"ticket": None}).endswith("unknown {ticket}")


def test_what_is_filled_in_is_not_filled_in_again():
    assert render_message("{finish_reason}", {"finish_reason": "{rule}", "rule": "x"}) == "{rule}"


@given(st.text(alphabet="{}:.!%0f_ abconfidence[]", max_size=30))
def test_what_is_checked_can_be_shown_and_nothing_else_is_reached(template):
    try:
        check_message(template)
    except ValueError:
        return
    assert "{confidence" not in render_message(template, VALUES).replace("{{", "").replace("{confidence}", "")


@pytest.mark.parametrize("name", PLACEHOLDERS)
def test_every_placeholder_is_known_and_may_be_unknown(name):
    assert render_message(check_message(f"{{{name}}}"), {}) == "unknown"
