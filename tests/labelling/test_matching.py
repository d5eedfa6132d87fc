import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.errors import OptionError
from guardrail.labelling.judges import SquadExactJudge, SquadF1Judge
from guardrail.labelling.matching import ContainsJudge, ExactJudge, F1Judge, squad_normalized
from guardrail.labelling.questions import question_text

QUESTION = "Which one is it?"


@pytest.mark.parametrize(
    ("response", "accepted"),
    [
        ("It is **Paris**.", ["Paris"]),
        ("It's the Sun!", ["the sun"]),
        ("There are seven of them.", ["7"]),
        ("It was in 1,969.", ["1969"]),
        ("Charles Darwin's idea", ["Wallace", "Darwin"]),
        ("Yes, it is.", ["yes"]),
        ("No.", ["no"]),
        ("A.", ["A"]),
        ("It is written a + b.", ["+"]),
        ("It is not London, it is Paris.", ["Paris"]),
        ("It is not London but Paris.", ["Paris"]),
        ("It is not only Paris.", ["Paris"]),
        ("Paris is not only large.", ["Paris"]),
        ("It isn't Paris. On second thoughts: Paris.", ["Paris"]),
        ("北京是首都。", ["北京"]),
    ],
)
def test_an_answer_that_holds_an_accepted_one_is_right(response, accepted):
    assert ContainsJudge()(QUESTION, response, accepted).correct is True


@pytest.mark.parametrize(
    ("response", "accepted"),
    [
        ("There are 14.", ["4"]),
        ("About 3.14.", ["3"]),
        ("It is −4 degrees.", ["4"]),
        ("Comparison", ["Paris"]),
        ("vitamin C", ["vitamin A"]),
        ("A vitamin", ["A"]),
        ("C#", ["C++"]),
        ("There is no doubt: yes", ["no"]),
        ("It is not Paris.", ["Paris"]),
        ("It isn't in Paris", ["Paris"]),
        ("Paris is not the capital.", ["Paris"]),
        ("Lyon rather than Paris", ["Paris"]),
        ("Lyon, instead of Paris", ["Paris"]),
        ("", ["Paris"]),
    ],
)
def test_an_answer_that_does_not_hold_or_denies_it_is_wrong(response, accepted):
    assert ContainsJudge()(QUESTION, response, accepted).correct is False


def test_an_accepted_answer_that_the_question_holds_does_not_count():
    judge = ContainsJudge()
    question = "Which is larger, the Sun or the Moon?"
    assert judge(question, "Which is larger, the Sun or the Moon?", ["the sun", "our star"]).correct is False
    assert judge(question, "Our star.", ["sun", "our star"]).correct is True
    verdict = judge(question, "The Sun.", ["sun"])
    assert verdict.correct is None
    assert "question" in verdict.reason


def test_in_a_conversation_only_the_last_message_is_the_question():
    judge = ContainsJudge()
    turns = [
        {"role": "system", "content": "Answer from the notice."},
        {"role": "user", "content": "The desk is open from Monday to Friday.\n\nWhen does the week begin?"},
        {"role": "assistant", "content": "On Monday, and Friday is the last day."},
        {"role": "user", "content": "Is Sunday the last day, then?"},
    ]
    question = question_text({"messages": turns})
    assert judge(question, "No: Friday.", ["Friday"]).correct is True
    assert judge(question, "Sunday.", ["Friday"]).correct is False
    assert judge(question, "Sunday.", ["Sunday"]).correct is None


@pytest.mark.parametrize("question", ["Sun or Moon?", "Sun or\n\nuser: Moon?", "user: Sun or Moon?"])
def test_a_question_that_is_no_transcript_counts_whole(question):
    assert ContainsJudge()(question, "The Sun.", ["sun"]).correct is None


@pytest.mark.parametrize(
    ("response", "correct"), [("The Sun.", True), ("sun", True), ("It is the sun.", False), ("", False)]
)
def test_an_exact_answer_is_an_accepted_one_and_nothing_else(response, correct):
    assert ExactJudge()("Sun or Moon?", response, ["moons", "the sun"]).correct is correct


@pytest.mark.parametrize(
    ("response", "answer", "f1"),
    [
        ("blood vessels", "blood vessels", 1.0),
        ("red blood", "blood vessels", 0.5),
        ("the tubes", "blood vessels", 0.0),
        ("", "blood", 0.0),
        ("+", "+", 1.0),
    ],
)
def test_f1_counts_the_words_shared(response, answer, f1):
    assert F1Judge(max(f1, 0.01))(QUESTION, response, ["x", answer]).correct is (f1 > 0)
    if 0 < f1 < 1:
        assert F1Judge(f1 + 0.01)(QUESTION, response, [answer]).correct is False


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.1, float("nan"), float("inf")])
def test_a_threshold_is_a_share(threshold):
    with pytest.raises(OptionError, match="threshold"):
        F1Judge(threshold)


@given(st.text(), st.text(), st.lists(st.text(min_size=1), min_size=1))
def test_whatever_is_said_there_is_a_verdict(question, response, accepted):
    for judge in (ExactJudge(), ContainsJudge(), F1Judge(), SquadExactJudge(), SquadF1Judge()):
        assert judge(question, response, accepted).correct in (True, False, None)


@given(st.sampled_from(["Paris", "7", "blood vessel", "北京"]), st.sampled_from(["", "It is ", "So: "]))
def test_an_exact_answer_also_holds_and_shares_it(answer, before):
    response = f"{before}{answer}."
    if ExactJudge()(QUESTION, response, [answer]).correct:
        assert ContainsJudge()(QUESTION, response, [answer]).correct
        assert F1Judge(1.0)(QUESTION, response, [answer]).correct


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("The  Cat's\n tail, an A.B.C!", "cats tail abc"),
        ("theatre, anthem and Ana", "theatre anthem and ana"),
        # Punctuation goes first, so no word boundary is left inside.
        ("a-ha", "aha"),
        ("1,000.50 €", "100050 €"),
        # Only ASCII punctuation is removed.
        ("“The” end…", "“ ” end…"),
        ("Ångström's", "ångströms"),
        ("The a an.", ""),
    ],
)
def test_squads_normalisation_is_the_published_one(text, normalised):
    assert squad_normalized(text) == normalised


@pytest.mark.parametrize(
    ("response", "correct"),
    [
        ("the Denver Broncos!", True),
        ("Denver  broncos", True),
        ("Broncos", False),
        ("The Denver Broncos won.", False),
        ("", False),
    ],
)
def test_squads_exact_match_is_of_the_whole_normalised_answer(response, correct):
    assert SquadExactJudge()(QUESTION, response, ["Panthers", "Denver Broncos"]).correct is correct


def test_squads_exact_match_knows_no_numerals_plurals_or_accents():
    for response, accepted in (("seven", "7"), ("vessels", "vessel"), ("Beyonce", "Beyoncé")):
        assert ExactJudge()(QUESTION, response, [accepted]).correct is True
        assert SquadExactJudge()(QUESTION, response, [accepted]).correct is False


@pytest.mark.parametrize(
    ("response", "answer", "f1"),
    [
        ("Denver Broncos", "the Denver Broncos", 1.0),
        # 2 of 4 words are shared, which are all of the accepted answer: P = 1/2, R = 1, F1 = 2/3.
        ("the Denver Broncos football team", "Denver Broncos", 2 / 3),
        # A repeated word counts as often as in both: P = 2/4, R = 2/2.
        ("New York, New York", "New York", 2 / 3),
        # P = 1/3, R = 1/2, F1 = 2/5.
        ("in Santa Clara", "Clara, California", 0.4),
        ("Carolina", "Denver", 0.0),
        ("", "Denver", 0.0),
    ],
)
def test_squads_f1_is_the_published_one(response, answer, f1):
    assert SquadF1Judge(max(f1, 0.01) - 1e-9)(QUESTION, response, ["x", answer]).correct is (f1 > 0)
    if f1 < 1:
        assert SquadF1Judge(f1 + 1e-6)(QUESTION, response, [answer]).correct is False


@pytest.mark.parametrize("judge", [SquadExactJudge(), SquadF1Judge()])
def test_an_accepted_answer_that_squads_normalisation_empties_labels_nothing_right(judge):
    assert judge("Which grade?", "the", ["A"]).correct is None
    assert judge("Which grade?", "", ["A", "excellent"]).correct is False
    assert judge("Which grade?", "Excellent.", ["A", "excellent"]).correct is True
