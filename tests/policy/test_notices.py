import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.policy.load import load_policy
from guardrail.policy.messages import PLACEHOLDERS, TEXTS, Notice, Notices, render_message

REFUSAL = "I am not sure enough to answer that."
SURE = "I am {confidence:.0%} sure, please verify"
SHARES = st.floats(0, 1)
LITERALS = st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs", "Cc"]), max_size=12)
NUMBERS = [name for name in PLACEHOLDERS if name not in TEXTS]


def notices(*texts, action="abstain"):
    return Notices([Notice(text, action, "default") for text in texts])


@st.composite
def messages(draw):
    """A message with placeholders between its texts, and values for them."""
    names = draw(st.lists(st.sampled_from(PLACEHOLDERS), min_size=1, max_size=4))
    specs = st.sampled_from(["", ":.0%", ":.2f", ":g", ":.3e", ":,.1f"])
    parts = [draw(LITERALS)]
    for name in names:
        parts += [f"{{{name}{'' if name in TEXTS else draw(specs)}}}", draw(LITERALS)]
    values = {name: draw(st.none() | SHARES | st.floats(-1e9, 1e9)) for name in names if name in NUMBERS}
    reasons = [None, "stop", "length", "reasoning_length"]
    values |= {"rule": "default", "finish_reason": draw(st.sampled_from(reasons))}
    values |= {"ticket": draw(st.none() | st.uuids().map(lambda one: one.hex))}
    return "".join(parts), values


@given(messages())
def test_every_rendering_of_a_message_is_that_message(message):
    template, values = message
    shown = render_message(template, values)
    if shown.strip():
        assert notices(template).repeated_in(shown) == template


@given(
    messages(),
    st.sampled_from(["{}", "  {}\n", '"{}"', "**{}**", "> {}", "{} {}", "{}\n\n{}"]),
    st.booleans(),
)
def test_nothing_that_is_put_around_a_message_makes_it_another(message, around, shout):
    template, values = message
    shown = render_message(template, values)
    if any(one.isalpha() for one in template.partition("{")[0]):
        said = around.replace("{}", shown)
        assert notices(template).repeated_in(said.swapcase() if shout and shown.isascii() else said)


@pytest.mark.parametrize(
    "text",
    [
        REFUSAL,
        "I am not sure enough to answer that",
        "i AM not sure  enough\nto answer that!",
        "> *I am not sure enough to answer that.*",
        f"{REFUSAL} {REFUSAL}",
        f"Sorry, {REFUSAL}",
        f"{REFUSAL} The capital of Australia is Sydney.",
        f'It says: "{REFUSAL}"',
        '{"answer": "I am not sure enough to answer that."}',
    ],
)
def test_a_long_message_is_known_wherever_it_stands(text):
    assert notices(REFUSAL).repeated_in(text) == REFUSAL


@pytest.mark.parametrize(
    ("text", "is_it"),
    [
        ("I am 37 % sure, please verify", True),
        ("I am 37% sure - please verify!", True),
        ("I am unknown sure, please verify", True),
        ("The capital is Canberra.\n\n_I am 93% sure, please verify._", True),
        ("I am quite sure, please verify", False),
        ("I am 37 years old, please verify", False),
    ],
)
def test_a_placeholder_stands_for_what_can_be_filled_in(text, is_it):
    assert bool(notices(SURE).repeated_in(text)) is is_it


@pytest.mark.parametrize(
    ("message", "text", "is_it"),
    [
        ("No.", "No.", True),
        ("No.", "**no**", True),
        ("No.", "No. 7 is a prime number.", False),
        ("No.", "Nothing", False),
        ("I do not know.", "Well, I do not know!", True),
        ("I do not know.", "Socrates said: all I know is that I do not know. It is in Plato.", False),
        ("Unknown", "The great unknown of science", False),
        ("{confidence:.0%}", "37%", True),
        ("{confidence:.0%}", "The answer is 37%", False),
        ("{rule}", "default", True),
        ("{rule}", "Paris", False),
        ("🤷", "🤷", True),
        ("🤷", "Paris", False),
        ("我不确定,无法回答。", "抱歉,我不确定,无法回答。", True),
        ("我不确定,无法回答。", "法国的首都是巴黎。", False),
    ],
)
def test_a_short_message_within_an_answer_is_no_repetition(message, text, is_it):
    assert bool(notices(message).repeated_in(text)) is is_it


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Canberra.\n\nI am 72% sure, please verify", "Canberra."),
        ("Canberra. (I am 72% sure, please verify.)", "Canberra."),
        ("I am 72% sure, please verify: **Canberra**", "**Canberra**"),
        ('"Canberra"\n\n> **I am 72 % sure, please verify**\n', '"Canberra"'),
        ("Canberra.\n\nI am 72% sure, please verify.\n\nSource: an atlas", "Canberra.\n\nSource: an atlas"),
        ("I am 72% sure, please verify", ""),
        ("Canberra.", "Canberra."),
    ],
)
def test_a_warning_is_taken_off_an_answer_and_nothing_else(text, left):
    assert notices(SURE, action="flag").without_flags(text) == left


@given(st.text(max_size=40), st.text(max_size=40), SHARES)
def test_no_letter_of_an_answer_is_lost_with_a_warning(before, after, confidence):
    flag = render_message(SURE, {"confidence": confidence})
    left = notices(SURE, action="flag").without_flags(f"{before}\n\n{flag}\n\n{after}")
    assert [one for one in left if one.isalnum()] == [one for one in f"{before}{after}" if one.isalnum()]


def test_a_message_that_withholds_is_never_taken_off():
    assert notices(REFUSAL).without_flags(f"Canberra. {REFUSAL}") == f"Canberra. {REFUSAL}"


@pytest.mark.parametrize("digits", [9, 400, 9_000])
def test_digits_without_end_are_read_at_once(digits):
    many = notices("{hybridgrad}{semgrad}{paragrad}{tokens}", "a{tokens}1{hybridgrad}1{semgrad}x", "{tokens}")
    assert not many.repeated_in("1" * digits + "z")


def test_a_policy_says_what_the_policies_say_that_it_extends(tmp_path):
    (tmp_path / "base.yaml").write_text(
        "version: 1\nname: base\nextends: builtin:default\n"
        "rules:\n  - {id: default, action: abstain, message: 'Ask in {confidence:.0%} of cases.'}\n"
    )
    (tmp_path / "child.yaml").write_text(
        "version: 1\nname: child\nextends: base.yaml\n"
        "rules:\n  - {id: default, action: abstain, message: 'No idea.'}\n"
        "on_error: {action: abstain, message: 'Out of order.'}\n"
    )
    said = {one.text for one in load_policy(tmp_path / "child.yaml").notices}
    assert {"No idea.", "Out of order.", "Ask in {confidence:.0%} of cases.", REFUSAL} <= said
    assert "I could not check my answer, so I am not giving it." in said
