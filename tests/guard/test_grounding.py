import json
from math import exp

import pytest

import guardrail.guard.grounding as grounding
from guardrail.calibration.confidence import assess_segment
from guardrail.calibration.profile import read_profile, write_profile
from guardrail.errors import PromptError, ScoringError
from guardrail.guard.tool_calls import CalledTool
from guardrail.models.documents import as_grounded, without_documents
from guardrail.scoring.document_gain import document_gains
from guardrail.scoring.score import score
from tests.support.chat import BROKEN_TOKEN, tiny_chat_model
from tests.support.grounded import DOCUMENT, GROUNDED, OTHERWISE, SURE, UNDECLARED, grounded_profile
from tests.support.guards import ASKED, PASS, SAID, SHORT, guard_of, profile_of, tiny

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def profile(tmp_path):
    return grounded_profile(tmp_path / "grounded.json")


def gain_of(model, messages, response):
    (trace,) = model.read_encoded([model.encode_prompt(messages)], [response])
    (gain,) = document_gains(model, [trace], [model.encode_prompt(without_documents(messages))])
    return gain


def test_the_confidence_reads_how_much_the_document_moved_the_answer(profile, tmp_path):
    guard = guard_of(
        SURE, OTHERWISE, profile=profile, log={"file": str(tmp_path / "log.jsonl"), "text": "full"}
    )
    answer = guard.ask(GROUNDED, SHORT)
    trace = tiny().generate(GROUNDED, SHORT)
    gain = gain_of(tiny(), GROUNDED, trace.response_ids)
    assert (answer.action, answer.error, answer.outside_domain) == ("pass", "", "")
    assert answer.text == trace.text
    assert answer.uncertainty.document_gain == pytest.approx(gain, abs=1e-4)
    assert answer.confidence == pytest.approx(1 / (1 + exp(-gain)), abs=1e-4)
    assert answer.as_plain()["scores"]["document_gain"] == answer.uncertainty.document_gain
    assert "document_gain" in answer.as_plain()["quantiles"]
    assert answer.timings["document_s"] > 0
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    logged = json.loads(line)
    assert logged["scores"]["document_gain"] == answer.uncertainty.document_gain
    assert logged["question"] == GROUNDED


def test_of_a_batch_each_answer_is_moved_by_its_own_document(profile):
    guard = guard_of(SURE, OTHERWISE, profile=profile)
    system = [
        {"role": "system", "content": f"Answer by this: {DOCUMENT}", "document": DOCUMENT},
        {"role": "user", "content": ASKED},
    ]
    conversations = [GROUNDED, ASKED, system]
    judged = guard.judge_batch(conversations, [SAID, SAID, "I do not know."])
    assert [one.action for one in judged] == ["pass", "abstain", "pass"]
    assert [one.rule for one in judged] == ["sure", "on_outside_domain", "sure"]
    # It has either sign.
    assert judged[0].uncertainty.document_gain * judged[2].uncertainty.document_gain < 0
    for one, messages, said in zip(judged, conversations, (SAID, SAID, "I do not know."), strict=True):
        if messages is not ASKED:
            expected = gain_of(tiny(), messages, tiny().encode_response(said))
            assert one.uncertainty.document_gain == pytest.approx(expected, abs=1e-4)
    alone = guard.judge(GROUNDED, SAID)
    assert alone.confidence == pytest.approx(judged[0].confidence, abs=1e-4)


@pytest.mark.parametrize("outside", [{}, {"on_outside_domain": "abstain"}, {"on_outside_domain": "flag"}])
def test_an_answer_whose_prompt_declares_no_document_is_outside_the_domain(profile, outside):
    guard = guard_of(SURE, OTHERWISE, profile=profile, **outside)
    for answer in (guard.ask(ASKED, SHORT), guard.judge(UNDECLARED, SAID)):
        assert answer.domain == ("document",)
        assert "this prompt declares none" in answer.outside_domain
        assert (answer.confidence, answer.guarantees, answer.uncertainty.document_gain) == (None, None, None)
        assert answer.rule == "on_outside_domain"
        assert answer.action == outside.get("on_outside_domain", "abstain")


def test_a_document_in_a_turn_that_was_withheld_is_no_part_of_the_prompt(profile):
    guard = guard_of(SURE, OTHERWISE, profile=profile)
    withheld = {"action": "abstain", "enforced": True}
    messages = [
        *GROUNDED,
        {"role": "assistant", "content": "I am not sure enough.", "uncertainty": withheld},
        {"role": "user", "content": "And who wrote Egmont?"},
    ]
    answer = guard.ask(messages, SHORT)
    assert answer.turns_left_out == 1
    assert "document" in answer.domain


def test_a_document_that_is_declared_wrongly_is_for_the_caller_to_mend(profile):
    wrong = [{"role": "user", "content": ASKED, "document": DOCUMENT}]
    for guard in (guard_of(SURE, OTHERWISE, profile=profile), guard_of(PASS)):
        with pytest.raises(PromptError, match="does not stand in its content"):
            guard.ask(wrong, SHORT)
        with pytest.raises(PromptError, match="does not stand in its content"):
            guard.judge(wrong, SAID)


def test_nothing_more_is_read_where_no_profile_asks_for_it(profile, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(grounding, "document_gains", lambda *args: read.append(args) or document_gains(*args))
    other = tmp_path / "other.json"
    write_profile(profile_of(), other)
    for guard in (guard_of(PASS), guard_of(PASS, profile=other)):
        answer = guard.judge(GROUNDED, SAID)
        assert (answer.action, answer.uncertainty.document_gain) == ("pass", None)
        assert "document_gain" not in answer.as_plain()["scores"]
        assert answer.uncertainty.scores() == score(tiny(), tiny().read(GROUNDED, SAID)).scores()
    assert not read
    guard_of(SURE, OTHERWISE, profile=profile).judge(GROUNDED, SAID)
    assert len(read) == 1


@pytest.mark.parametrize("error", [ScoringError("no"), MemoryError(), RuntimeError("goethe")])
def test_where_it_cannot_be_had_the_answer_is_withheld(profile, monkeypatch, error):
    def fails(*_):
        raise error

    monkeypatch.setattr(grounding, "document_gains", fails)
    guard = guard_of(SURE, OTHERWISE, profile=profile)
    for answer in guard.judge_batch([GROUNDED, GROUNDED], [SAID, "I do not know."]):
        assert (answer.action, answer.rule, answer.confidence) == ("abstain", "on_error", None)
        assert answer.error.startswith(type(error).__name__)
        assert "goethe" not in answer.error


def test_of_a_batch_only_the_guilty_goes_without(profile, monkeypatch):
    def fails_for_one(model, traces, prompts):
        if any("Egmont" in model.tokenizer.decode(trace.prompt_ids) for trace in traces):
            raise ScoringError("no")
        return document_gains(model, traces, prompts)

    monkeypatch.setattr(grounding, "document_gains", fails_for_one)
    other = [as_grounded("Who wrote Egmont?", DOCUMENT)]
    judged = guard_of(SURE, OTHERWISE, profile=profile).judge_batch([GROUNDED, other, GROUNDED], [SAID] * 3)
    assert [one.rule for one in judged] == ["sure", "on_error", "sure"]


def test_a_prompt_that_is_not_a_number_without_its_document_is_withheld(tmp_path):
    model = tiny_chat_model(broken=True)
    path = grounded_profile(tmp_path / "p.json", model)
    guard = guard_of(SURE, OTHERWISE, profile=path, model=model)
    assert guard.judge(GROUNDED, SAID).action == "pass"
    answer = guard.judge(GROUNDED, [*model.encode_response(SAID), BROKEN_TOKEN, BROKEN_TOKEN])
    assert (answer.action, answer.rule) == ("abstain", "on_error")


def test_parts_of_an_answer_have_no_confidence_by_such_a_profile(profile):
    guard = guard_of(SURE, OTHERWISE, profile=profile)
    written = 'look_up("Faust")'
    answer = guard.judge(GROUNDED, f"Yes. {written}", tool_calls=[CalledTool("look_up", written)])
    (call,) = answer.tool_calls
    assert call.confidence is None
    assert "document" in call.reason
    part = assess_segment(read_profile(profile), score(tiny(), tiny().read(GROUNDED, SAID)))
    assert part.uncalibrated_confidence is None
