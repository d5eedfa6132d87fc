"""Profiles made of the prompts that a chain gives to its model."""

import json

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda

import guardrail
from guardrail.errors import OptionError
from guardrail.labelling.questions import LabelOptions
from guardrail.models.sampling import Sampling
from tests.support.chat_models import ABSTAIN, chat_of
from tests.support.guards import tiny

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = LabelOptions(sampling=Sampling(max_tokens=2))
SYSTEM = "Answer from the leaflet."
ROWS = [{"question": f"What is {at}?", "topic": "numbers"} for at in range(20)]


def chain_of(chat):
    asked = ChatPromptTemplate.from_messages([("system", SYSTEM), ("user", "Leaflet: it is.\n\n{question}")])
    return {"question": RunnableLambda(str)} | asked | chat | StrOutputParser()


@pytest.mark.parametrize("rules", [(), (ABSTAIN,)], ids=["passing", "withholding"])
def test_a_chain_is_calibrated_on_what_it_asks_its_model(tmp_path, rules):
    output = tmp_path / "mine.json"
    profile = guardrail.calibrate(chain_of(chat_of(*rules)), ROWS, output=output, labelling=SHORT)
    lines = [json.loads(line) for line in (tmp_path / "mine.questions.jsonl").read_text().splitlines()]
    assert [line["topic"] for line in lines] == ["numbers"] * 20
    assert lines[3]["messages"] == [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": "Leaflet: it is.\n\nWhat is 3?"},
    ]
    assert guardrail.read_profile(output).digest == profile.digest
    assert profile.domain.systems == 1
    assert profile.domain.turns.high == 1
    assert profile.model.name == "tiny"


def test_a_model_is_calibrated_on_the_rows_themselves(tmp_path):
    profile = guardrail.calibrate(tiny(), ROWS, output=tmp_path / "p.json", labelling=SHORT)
    assert (profile.domain.answers, profile.domain.systems) == (20, 0)


def test_an_input_of_ones_own_is_made_of_a_row(tmp_path):
    rows = [{"city": f"City {at}", "answers": ["x"]} for at in range(3)]
    chain = ChatPromptTemplate.from_messages([("user", "Where is {city}?")]) | chat_of()
    with pytest.raises(OptionError, match="neither input nor question, but city, answers"):
        guardrail.calibrate(chain, rows, output=tmp_path / "p.json", labelling=SHORT)

    def city_of(row):
        return {"city": row["city"]}

    # Three questions are too few; their prompts were made all the same.
    with pytest.raises(guardrail.GuardrailError):
        guardrail.calibrate(chain, rows, output=tmp_path / "p.json", labelling=SHORT, as_input=city_of)
    asked = (tmp_path / "p.questions.jsonl").read_text().splitlines()
    assert json.loads(asked[2])["messages"][0]["content"] == "Where is City 2?"


def test_the_model_is_found_in_the_chain_or_asked_for(tmp_path):
    output = tmp_path / "p.json"
    chain = chat_of() | RunnableLambda(lambda message: message)
    assert guardrail.calibrate(chain, ROWS, output=output, labelling=SHORT).model.name == "tiny"
    with pytest.raises(OptionError, match="has no ChatGuardrail"):
        guardrail.calibrate(RunnableLambda(str), ROWS, output=output, labelling=SHORT)
    with pytest.raises(OptionError, match="called no chat model for row 1"):
        guardrail.calibrate(RunnableLambda(str), ROWS, output=output, labelling=SHORT, model=tiny())


def test_what_is_neither_a_model_nor_a_chain_is_said_before_a_file_is_written(tmp_path):
    with pytest.raises(OptionError, match="A str is neither a LocalModel nor a LangChain chain"):
        guardrail.calibrate("smollm2-135m", ROWS, output=tmp_path / "p.json")
    assert [*tmp_path.iterdir()] == []
