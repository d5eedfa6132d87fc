import json

import pytest
from langchain_core.language_models import GenericFakeChatModel

from guardrail.errors import GenerationError, RecordError
from guardrail.scoring.paraphrases import (
    ParaphrasedQuery,
    by_chat_model,
    by_local_model,
    distinct,
    paraphrase,
    read_paraphrases,
    take,
)
from tests.support.chat import tiny_chat_model


def written(path, *lines):
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n", encoding="utf-8")
    return path


def test_lines_of_both_names_are_read_and_what_is_no_other_wording_is_counted(tmp_path):
    path = written(
        tmp_path / "p.jsonl",
        {"query": "Who wrote Faust?", "paraphrases": ["who wrote Faust", "Faust is by whom?", " "]},
        {"question": "Why?", "paraphrases": ["What for?", "What for", "For what?"], "answer": "so"},
        {"question": "When?"},
    )
    found = read_paraphrases(path)
    assert found.queries == [
        ParaphrasedQuery("Who wrote Faust?", ("Faust is by whom?",)),
        ParaphrasedQuery("Why?", ("What for?", "For what?")),
        ParaphrasedQuery("When?", ()),
    ]
    assert found.left_out == 3
    assert len(read_paraphrases(path, limit=1).queries) == 1
    assert take(found.queries, 1)[1].paraphrases == ("What for?",)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ({"text": "Who?"}, 'It has neither "query" nor "question"'),
        ({"query": 3}, "query is a number; text is expected"),
        ({"query": " ?"}, "query is empty"),
        ({"query": "Who?", "paraphrases": "Whom?"}, "paraphrases is a text, and a list"),
        ({"query": "Who?", "paraphrases": [1]}, "A paraphrase is a number"),
        ({"query": "when"}, "It asks the same as line 1"),
    ],
)
def test_a_line_that_is_none_is_named_and_the_others_count(tmp_path, line, sentence):
    path = tmp_path / "p.jsonl"
    found = read_paraphrases(written(path, {"query": "When?"}, line, {"query": "Why?"}))
    assert [query.query for query in found.queries] == ["When?", "Why?"]
    ((number, reason, _),) = found.refused
    assert number == 2
    assert reason.startswith(sentence)
    if line != {"query": "when"}:
        with pytest.raises(RecordError, match=f"line 1: {sentence}"):
            read_paraphrases(written(path, line))


def test_letters_of_every_script_are_words():
    assert distinct("Кто?", ["кто", "谁？", "谁", "Кто это?"]) == ("谁？", "Кто это?")


def test_a_chat_model_writes_one_a_line_and_what_it_adds_is_taken_off():
    reply = 'Here are they:\n1. Who made Faust?\n- "Faust is by whom?"\nRephrase 3: who wrote faust\n'
    reply += "4) 3.14 is what?\n\n"
    writer = by_chat_model(GenericFakeChatModel(messages=iter([reply])), "fake")
    given = ParaphrasedQuery("Why?", ("What for?",))
    made = paraphrase([ParaphrasedQuery("Who wrote Faust?", ()), given], 5, writer)
    assert made.queries == [
        ParaphrasedQuery("Who wrote Faust?", ("Who made Faust?", "Faust is by whom?", "3.14 is what?")),
        given,
    ]
    assert made.left_out == 1


def test_a_chat_model_that_fails_is_one_sentence():
    with pytest.raises(GenerationError, match="fake made no paraphrases: StopIteration"):
        by_chat_model(GenericFakeChatModel(messages=iter([])), "fake")("Who?", 2)


@pytest.mark.usefixtures("one_thread")
def test_the_model_itself_writes_them_and_the_same_seed_the_same():
    model = tiny_chat_model()
    first, again = (by_local_model(model, seed=3)("Who wrote Faust?", 3) for _ in range(2))
    assert first == again
    assert 0 < len(set(first)) <= 3
