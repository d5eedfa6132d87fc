"""SmolLM2 under templates that reason, its words held to a grammar where it would not write them."""

import pytest

from guardrail.guard import Guard
from guardrail.labelling.judge import AnswerToJudge, judge_answer
from guardrail.labelling.judges import as_judge
from guardrail.models.decoding import GenerationControls, held_to
from guardrail.models.local import LocalModel
from guardrail.models.sampling import Sampling
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.score import score
from tests.support.guards import PASS, policy_of
from tests.support.reasoning import TEMPLATES

pytestmark = pytest.mark.slow

ASKED = "What is the capital of France?"
THOUGHT = r'"<think>\n" /[A-Za-z ,.]{20,60}/ "\n</think>\n\n"'
CLOSED = r'/[A-Za-z ,.]{20,60}/ "\n</think>\n\n"'
ANSWER = r"/[A-Z][a-z ]{3,30}\./"
SAMPLING = Sampling(max_tokens=40, max_reasoning_tokens=80)


@pytest.fixture(scope="module")
def smollm2():
    pytest.importorskip("llguidance", reason="llguidance is not installed")
    return LocalModel.load("smollm2-135m")


def under(model, template):
    """The same weights under another template."""
    from copy import copy

    tokenizer = copy(model.tokenizer)
    tokenizer.chat_template = template
    return LocalModel(model.model, tokenizer, "smollm2-135m")


def held(grammar):
    return GenerationControls(processor=held_to(f"start: {grammar}", after_reasoning=False))


@pytest.mark.parametrize(("opens", "thought"), [(False, THOUGHT), (True, CLOSED)])
def test_the_answer_is_told_from_what_was_thought(smollm2, opens, thought):
    template = (TEMPLATES / "qwen3.jinja").read_text()
    if opens:
        template = template.replace("{%- if enable_thinking is", "{{- '<think>\\n' }}{%- if false and x is")
        template = template.replace(
            "{%- if false and x is defined and enable_thinking is false %}", "{%- if false %}"
        )
    model = under(smollm2, template)
    assert model.encode_prompt(ASKED).opens_reasoning == opens
    trace = model.generate(ASKED, SAMPLING, controls=held(f"{thought} {ANSWER}"))
    assert trace.reasoning
    assert "think" not in trace.text
    assert trace.text[0].isupper()
    assert trace.text.endswith(".")
    assert len(trace.reasoning) >= 20
    truncated = score(model, trace, release=False)
    full = score(model, trace, ScoringOptions(computation="full"))
    assert truncated.computation == "truncated"
    assert truncated.hybridgrad == pytest.approx(full.hybridgrad, rel=1e-3)
    assert len(truncated.tokens) == len(trace.response_ids) - trace.answer_start
    case = AnswerToJudge(ASKED, f"<think>{trace.reasoning}</think>{trace.text}", [trace.text])
    assert judge_answer(as_judge("exact"), case).correct


def test_a_thought_without_an_end_is_withheld(smollm2):
    model = under(smollm2, (TEMPLATES / "qwen3.jinja").read_text())
    guard = Guard(policy_of(PASS), model)
    endless = held(r'"<think>\n" /[A-Za-z ,.]{400,500}/')
    answer = guard.ask(ASKED, Sampling(max_tokens=10, max_reasoning_tokens=20), controls=endless)
    assert (answer.rule, answer.finish_reason, answer.draft) == ("on_error", "reasoning_length", "")
