import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from guardrail.calibration.profile import Guarantee, write_profile
from guardrail.cli.render import print_guarded
from guardrail.escalation.case import Answered, Attempt, Escalation, Queued
from guardrail.guard.answer import GuardedAnswer
from guardrail.models.local import LocalModel
from tests.support.guards import profile_of

RULES = {
    "pass": "{id: all, action: pass}",
    "flag": '{id: all, action: flag, message: "Please verify."}',
    "abstain": '{id: all, action: abstain, message: "No answer."}',
    "escalate": "{id: all, action: escalate, to: human}",
}


@pytest.fixture
def ask(run, tmp_path):
    def invoke(action, *arguments, more="", **options):
        policy = tmp_path / "policy.yaml"
        policy.write_text(f"version: 1\nname: mine\n{more}\nrules:\n  - {RULES[action]}\n")
        return run("ask", "Who?", "--max-tokens", 4, "--policy", policy, *arguments, **options)

    return invoke


def draft_of(run):
    return json.loads(run("ask", "Who?", "--max-tokens", 4, "--json").stdout)["answer"]


def test_an_answer_that_passes_is_shown_with_its_badge(ask, run):
    result = ask("pass")
    assert result.exit_code == 0
    assert result.stdout.startswith(draft_of(run))
    assert "PASS  no confidence" in result.stdout
    assert "all: no earlier rule applies" in result.stdout
    assert "mine (" in result.stdout


def test_json_has_the_answer_the_action_and_what_led_to_it(ask, run):
    result = ask("flag", "--json")
    answer = json.loads(result.stdout)
    assert (answer["answer"], answer["action"], answer["message"]) == (
        draft_of(run),
        "flag",
        "Please verify.",
    )
    assert answer["scores"]["hybridgrad"] > 0
    assert "draft" not in answer


@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_a_draft_that_is_withheld_is_shown_only_where_asked_for(ask, run, arguments):
    draft = draft_of(run)
    result = ask("abstain", *arguments)
    assert result.exit_code == 0
    assert "No answer." in result.stdout
    assert json.dumps(draft)[1:-1] not in result.stdout
    assert draft not in result.stdout
    shown = ask("abstain", "--show-draft", "--json")
    assert json.loads(shown.stdout)["draft"] == draft
    assert "Draft" in ask("abstain", "--show-draft").stdout


def test_an_answer_for_a_person_gets_a_ticket(ask, tmp_path):
    more = f'escalation: {{human: {{queue: "sqlite:///{tmp_path}/q.db"}}}}'
    answer = json.loads(ask("escalate", "--json", more=more).stdout)
    assert answer["escalation"]["ticket"] == answer["request"]


def test_a_profile_gives_the_badge_its_words(ask, model_folder, tmp_path):
    profile = profile_of(LocalModel.load(str(model_folder)), intercept=1.5)
    write_profile(profile, tmp_path / "profile.json")
    result = ask("pass", more="profile: profile.json")
    assert "PASS  likely right · 82 %" in result.stdout
    # One question is too few to tell whether questions are those of the profile.
    assert "none: the questions so far are too few to compare: 1 of 50" in " ".join(result.stdout.split())


def test_tags_reach_the_rules(run, tmp_path):
    policy = tmp_path / "p.yaml"
    policy.write_text(
        "version: 1\nname: p\nrules:\n  - {id: demo, when: {tags: [demo]}, action: flag}\n"
        "  - {id: rest, action: abstain}\n"
    )
    common = ("ask", "Who?", "--max-tokens", 2, "--json", "-p", policy)
    assert json.loads(run(*common, "--tag", "demo").stdout)["rule"] == "demo"
    assert json.loads(run(*common).stdout)["rule"] == "rest"


def test_mistakes_in_a_policy_are_told_before_the_model_is_opened(run, tmp_path):
    policy = tmp_path / "p.yaml"
    policy.write_text("version: 1\nname: p\nrules:\n  - {id: demo, action: let_through}\n")
    result = run("ask", "Who?", "-p", policy, model=tmp_path / "no-model")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "rules[0].action" in result.stderr
    assert "opening" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--policy", "builtin:none-of-that-name"),
        ("--policy", "/missing.yaml"),
        ("--show-draft",),
        ("--tag", "a"),
    ],
)
def test_what_does_not_go_together_is_refused(run, arguments):
    result = run("ask", "Who?", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")


@pytest.mark.parametrize("arguments", [("--reduction", "mean"), ("--semantic-token", "-3")])
def test_how_to_score_is_the_profiles_to_say(ask, arguments):
    result = ask("pass", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")


def test_the_policy_may_name_the_model(run, tmp_path, model_folder):
    policy = tmp_path / "p.yaml"
    policy.write_text(f"version: 1\nname: p\nmodel: {model_folder}\nrules:\n  - {{id: all, action: pass}}\n")
    result = run("ask", "Who?", "--max-tokens", 2, "--json", "-p", policy, model=None)
    assert json.loads(result.stdout)["model"] == str(Path(model_folder))


def guarded(**changes):
    values = {
        "text": "Goethe.",
        "action": "pass",
        "rule": "sure",
        "reason": "confidence 0.9 is at least 0.8",
        "message": None,
        "confidence": 0.9,
        "uncertainty": None,
        "guarantees": (Guarantee(0.05, 0.95),),
        "quantiles": {},
        "finish_reason": "stop",
        "usage": None,
        "draft": "Goethe.",
        "escalation": None,
        "enforced": True,
        "error": "",
        "request": "0" * 32,
        "model": "tiny",
        "policy_digest": "p" * 64,
        "profile_digest": None,
        "timings": {"answer_s": 1.0},
    }
    return GuardedAnswer(**{**values, **changes})


def shown(answer, **options):
    console = Console(file=io.StringIO(), width=200, highlight=False, **options)
    print_guarded(console, answer, "mine")
    return console.file.getvalue()


def attempt(**changes):
    values = {"target": "strong", "kind": "chat_model", "outcome": "answered", "error": "", "seconds": 1.0}
    return Attempt(**{**values, **changes})


def test_the_badge_says_who_answered_and_that_the_confidence_is_not_theirs():
    escalation = Escalation((attempt(),), Answered("Goethe!", "strong-1"))
    text = shown(guarded(action="escalate", text="Goethe!", escalation=escalation))
    assert "ESCALATE  likely right · 90 % (the local model's answer, which is not shown)" in text
    assert "strong-1" in text


def test_the_badge_shows_each_attempt_and_the_ticket():
    failed = attempt(outcome="failed", error="TimeoutError: no answer within 30 s")
    queued = attempt(target="human", kind="queue", outcome="queued")
    text = shown(guarded(action="escalate", escalation=Escalation((failed, queued), Queued("t1"))))
    assert "to strong: TimeoutError: no answer within 30 s" in text
    assert "to human: queued" in text
    assert "t1" in text


def test_the_badge_says_where_a_policy_only_observes_and_what_went_wrong():
    text = shown(guarded(action="abstain", enforced=False, error="MemoryError: too large"))
    assert "observed only" in text
    assert "MemoryError: too large" in text


def test_neither_a_model_nor_a_policy_gives_orders_to_the_terminal():
    text = shown(guarded(text="a\x1b[2Jb", action="flag", message="[red]c[/red]\x07", rule="r\x1b"))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]c[/red]" in text


def test_the_badge_is_coloured_on_a_terminal(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[" in shown(guarded(), force_terminal=True, color_system="256")
