"""Rows of published data sets become the answers that are right; what is no shape of them is refused."""

import json

import pytest

from guardrail.labelling.questions import parse_questions

# Rows as the sets have them, cut short.
ROWS = {
    "SQuAD": (
        {
            "context": "The Normans were in Normandy.",
            "question": "Where were they?",
            "answers": {"text": ["Normandy", "in Normandy", "Normandy"], "answer_start": [20, 17, 20]},
        },
        ("Normandy", "in Normandy"),
        "The Normans were in Normandy.\n\nWhere were they?",
    ),
    "TriviaQA": (
        {
            "question": "Who was behind The Chipmunks?",
            "answer": {
                "value": "David Seville",
                "aliases": ["David Seville", "Ross Bagdasarian"],
                "normalized_aliases": ["david seville"],
                "normalized_value": "david seville",
                "type": "WikipediaEntity",
            },
        },
        ("David Seville", "Ross Bagdasarian"),
        None,
    ),
    "TruthfulQA": (
        {
            "question": "What happens?",
            "best_answer": "Nothing happens",
            "correct_answers": ["Nothing happens", "They pass through"],
            "incorrect_answers": ["You die"],
        },
        ("Nothing happens", "They pass through"),
        None,
    ),
    "TruthfulQA, multiple choice": (
        {
            "question": "What happens?",
            "mc1_targets": {"choices": ["Nothing", "You die"], "labels": [1, 0]},
            "mc2_targets": {"choices": ["Nothing", "It passes", "You die"], "labels": [1, 1, 0]},
        },
        ("Nothing", "It passes"),
        None,
    ),
    "PopQA": (
        {"question": "Who wrote it?", "obj": "Ann Lee", "possible_answers": '["Ann Lee", "A. Lee"]'},
        ("Ann Lee", "A. Lee"),
        None,
    ),
    "GSM8K": (
        {"question": "How many?", "answer": "48/2 = <<48/2=24>>24.\nAltogether 48+24 = 1,072.\n#### 1,072"},
        ("1072", "1,072"),
        None,
    ),
    "BoolQ": (
        {"question": "is it so", "passage": "It is not so.", "answer": False},
        ("no", "false"),
        "It is not so.\n\nis it so",
    ),
    "HotpotQA": (
        {
            "question": "Which came first?",
            "answer": "Arthur's Magazine",
            "supporting_facts": {"title": ["A"], "sent_id": [0]},
            "context": {"title": ["A", "B"], "sentences": [["One. ", "Two."], ["Three."]]},
        },
        ("Arthur's Magazine",),
        "A: One. Two.\nB: Three.\n\nWhich came first?",
    ),
    "SciQ": (
        {"question": "Who?", "correct_answer": "darwin", "distractor1": "shaw", "support": "He did."},
        ("darwin",),
        "Who?",
    ),
    "answer": (
        {"question": "when?", "answer": ["14 December 1972", "1972"]},
        ("14 December 1972", "1972"),
        None,
    ),
    "answers": ({"question": "Who?", "answers": ["Ann"]}, ("Ann",), None),
}
LETTERS = {"text": ["Oslo", "Rome", "Bern"], "label": ["A", "B", "C"]}
CHOSEN = [
    {"question": "Q?", "choices": ["Oslo", "Rome", "Bern"], "answer": 1},
    {"question": "Q?", "choices": ["Oslo", "Rome", "Bern"], "answer": "B"},
    {"question": "Q?", "choices": ["Oslo", "Rome", "Bern"], "answer": "Rome"},
    {"question": "Q?", "choices": ["Oslo", "Rome", "Bern"], "gold": 1},
    {"question": "Q?", "options": ["Oslo", "Rome", "Bern"], "answer": "B", "answer_index": 1},
    {
        "question": "Q?",
        "options": {"A": "Oslo", "B": "Rome", "C": "Bern"},
        "answer_idx": "B",
        "answer": "Rome",
    },
    {"question": "Q?", "choices": LETTERS, "answerKey": "B"},
    {"question": "Q?", "choices": {**LETTERS, "label": ["1", "2", "3"]}, "answerKey": "2"},
    {"question_stem": "Q?", "choices": LETTERS, "answerKey": "B"},
    {
        "question": {
            "stem": "Q?",
            "choices": [
                {"text": "Oslo", "label": "A"},
                {"text": "Rome", "label": "B"},
                {"text": "Bern", "label": "C"},
            ],
        },
        "answerKey": "B",
    },
    {"question": "Q?", "A": "Oslo", "B": "Rome", "C": "Bern", "answer": "B"},
    {"question": "Q?", "option_a": "Oslo", "option_b": "Rome", "option_c": "Bern", "answer": "b"},
    {"question": "Q?", "opa": "Oslo", "opb": "Rome", "opc": "Bern", "answer": "(B)"},
    {"question": "Q?", "options": ["A. Oslo", "B. Rome", "C. Bern"], "answer": "B"},
    {"question": "Q?", "options": ["(A) Oslo", "(B) Rome", "(C) Bern"], "answers": ["(B) Rome"]},
]
REFUSED = [
    ({"choices": ["a", "b"], "answer": 2}, "answer is 2, which is not one of the 2 choices"),
    ({"choices": ["a", "b"], "answer": -1}, "answer is -1"),
    ({"choices": ["a", "b"], "answer": "C"}, 'answer is "C"'),
    ({"choices": ["a", "b"], "answer": True}, "answer is true"),
    ({"choices": ["a", "b"], "answer": 0.5}, "answer is 0.5"),
    ({"choices": ["B", "C"], "answer": "B"}, 'answer is "B"'),
    ({"choices": LETTERS, "answerKey": "E"}, 'answerKey is "E"'),
    ({"choices": {**LETTERS, "label": ["A"]}, "answerKey": "A"}, "not a list of choices"),
    ({"choices": [], "answer": 0}, "not a list of choices"),
    ({"choices": "a, b", "answer": 0}, "choices is a text, not a list"),
    ({"choices": ["a", "b"], "answers": [1]}, "answers is [1], which is not one of the choices"),
    ({"answer": "['Ann Lee', 'A. Lee']"}, "looks like a list"),
    ({"possible_answers": "[Ann"}, None),
    ({"possible_answers": "[1, 2]"}, "looks like a list"),
    ({"answer": "First we add.\n" + "Then we go on. " * 9 + "7"}, "a whole solution"),
    ({"answer": "We have \\boxed{7}."}, "a whole solution"),
    ({"answers": " ".join(["word"] * 150)}, "a whole solution"),
    ({"answer": {"number": "7", "spans": []}}, "answer is an object with number, spans"),
    ({"answers": {"text": [], "answer_start": []}}, "answers.text is empty: no answer is right"),
    ({"answers": [{"start": 3}]}, "answers contains an object"),
    ({"answers": ["['Ann Lee', 'A. Lee']"]}, "looks like a list"),
    ({"answers": "['Ann' 'Lee']"}, "looks like a list"),
    ({"answers": "('Ann Lee', 'A. Lee')"}, "looks like a list"),
    ({"answers": "array(['Ann Lee'], dtype=object)"}, "looks like a list"),
    ({"answers": "{'text': array(['Ann'], dtype=object), 'answer_start': array([1])}"}, "looks like a list"),
    ({"answers": '{"text": ["Ann"], "answer_start": [1]}'}, "looks like a list"),
    ({"answer": {"value": "<unk>", "aliases": []}}, "no answer is right"),
    ({"answers": ["No Answer Present."]}, "no answer is right"),
    ({"answer": "He has <<2*3=6>>6."}, "a whole solution"),
    ({"A": "Oslo", "B": "Rome", "answer": "C"}, 'answer is "C"'),
    ({"answers_spans": {"spans": ["10"], "types": ["number"]}}, "be in answers_spans"),
    ({"right_answer": "Ann", "hallucinated_answer": "Bo"}, "be in right_answer"),
    ({"solution": "So $\\boxed{42}$"}, "be in solution"),
    ({"passage": "It is so.", "label": 1}, "be in label"),
    ({"answerA": "a", "answerB": "b", "label": "2"}, "be in answerA, answerB, label"),
    ({"opa": "a", "opb": "b", "cop": 1}, "be in cop"),
    ({"answer": True}, "answer contains true or false"),
    ({"mc1_targets": {"choices": ["a"], "labels": [0]}}, "mc1_targets has no right choice"),
]


def _parsed(row):
    return parse_questions([json.dumps(row)])


@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_a_known_set_has_its_right_answers_and_says_which_set(name):
    row, accepted, prompt = ROWS[name]
    (question,) = _parsed(row).usable
    assert question.accepted == accepted
    assert question.shape == name
    assert question.text == row["question"]
    assert question.prompt == (prompt or row["question"])


@pytest.mark.parametrize("row", CHOSEN)
def test_the_choice_that_a_row_names_is_right_and_the_model_reads_them_all(row):
    (question,) = _parsed(row).usable
    assert question.accepted == ("Rome",)
    assert question.text == "Q?"
    assert question.prompt == "Q?\n\n- Oslo\n- Rome\n- Bern"
    assert "multiple choice" in question.shape


@pytest.mark.parametrize(("row", "said"), REFUSED)
def test_what_is_no_known_shape_is_refused_with_what_was_found(row, said):
    parsed = _parsed({"question": "Q?", **row})
    if said is None:  # a bracket alone begins no list
        assert parsed.usable
        return
    (failure,) = parsed.refused
    assert said in failure.reason


@pytest.mark.parametrize("text", ["(2, 3)", "[0, 1)", "{x}", "(Mr) Bob (Lee)", "[sic]", "f(x) = {1 if x}"])
def test_an_answer_in_brackets_is_an_answer(text):
    (question,) = _parsed({"question": "Q?", "answer": text}).usable
    assert question.accepted == (text,)


def test_a_list_written_as_a_text_counts_within_a_list_too():
    (question,) = _parsed({"question": "Q?", "answers": ['["Ann Lee", "A. Lee"]', "Lee"]}).usable
    assert question.accepted == ("Ann Lee", "A. Lee", "Lee")


@pytest.mark.parametrize(
    "beside",
    [{"target": "en"}, {"gold": True}, {"choices": []}, {"answer_type": "short"}, {"label": "people"}],
)
def test_what_else_a_row_says_is_no_answer(beside):
    (question,) = _parsed({"question": "Q?", "answers": ["Ann"], **beside}).usable
    assert question.accepted == ("Ann",)


@pytest.mark.parametrize(
    "beside", [{"topic": "art"}, {"label": "people"}, {"answer_type": "short"}, {"answers": None}]
)
def test_a_question_that_nobody_answered_is_one(beside):
    (question,) = _parsed({"question": "Q?", **beside}).usable
    assert question.accepted == ()


def test_whoever_judges_by_himself_may_have_any_shape():
    row = {"question": "Q?", "right_answer": "Ann"}
    (question,) = parse_questions([json.dumps(row)], judge_needs_answers=False).usable
    assert question.fields["right_answer"] == "Ann"


def test_a_passage_with_choices_is_read():
    (question,) = _parsed(
        {"article": "Rome is.", "question": "Q?", "options": ["a", "b"], "answer": "A"}
    ).usable
    assert question.prompt == "Rome is.\n\nQ?\n\n- a\n- b"


def test_a_response_that_is_given_was_to_what_the_line_says_alone():
    row, accepted, _ = ROWS["SQuAD"]
    (question,) = _parsed({**row, "response": "In Normandy."}).usable
    assert (question.prompt, question.accepted) == (row["question"], accepted)
    (question,) = _parsed({**row, "prompt": "Read, and answer."}).usable
    assert question.prompt == "Read, and answer."


def test_which_shapes_were_taken_is_told_with_their_number():
    rows = [ROWS["SQuAD"][0], {**ROWS["SQuAD"][0], "question": "Who were?"}, ROWS["GSM8K"][0]]
    assert parse_questions(map(json.dumps, rows)).shapes == "SQuAD (2); GSM8K (1)"
    assert parse_questions(['{"question": "a"}']).shapes == ""
