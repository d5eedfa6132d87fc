"""A good policy that uses everything there is, and what turns a text into a checked policy."""

from pathlib import Path

from guardrail.policy.load import Checked, check_text

GOOD = """\
version: 1
name: everything
description: Uses everything there is.
mode: enforce
profile: auto
combine: last
rules:
  - id: cut-off
    when: {finish_reason: [length], tags: public}
    action: abstain
    message: "It was cut off by {rule}."
  - id: risky
    when:
      tool_call: ["send_*", delete_file]
      any:
        - confidence: {lt: 0.9}
        - uncertainty: {hybridgrad: {gte: 0.01}, tokens: {gt: 200}}
    action: escalate
    to: human
  - id: certified
    when: {certified: {max_error: 0.05, confidence: 0.95}}
    action: pass
  - id: odd
    when:
      all:
        - quantile: {hybridgrad: {gte: 0.9}, confidence_score: {lte: 0.1}}
        - not: {tags: [internal]}
    action: escalate
    to: strong
  - id: unsure
    when: {confidence: {gte: 0.5}}
    action: flag
    message: "Please verify: confidence {confidence:.0%}, hybridgrad {hybridgrad}."
  - id: default
    action: abstain
on_error: {action: escalate, to: human, message: "Somebody will look at it."}
on_uncalibrated: flag
on_outside_domain: {action: escalate, to: human}
streaming: buffer
escalation:
  human:
    queue: "sqlite:///guardrail.db"
  strong:
    chat_model: "openai:gpt-5"
    arguments: {temperature: 0}
    timeout_s: 30
    on_error: expert
  expert:
    callable: "my_app.answers:ask"
    on_error: human
log: {file: decisions.jsonl, text: hash}
"""


def check(text: str, folder: Path = Path("nowhere"), **environment: str) -> Checked:
    """Check a text as the file p.yaml."""
    return check_text(text, "p.yaml", folder, environment)


def mistakes(text: str, folder: Path = Path("nowhere"), **environment: str) -> list[str]:
    """The mistakes of a text, as they are printed."""
    checked = check(text, folder, **environment)
    assert (checked.policy is None) == bool(checked.mistakes)
    # What is only found to be no policy was not looked at well enough.
    assert not any("is not a valid policy" in mistake.text for mistake in checked.mistakes)
    return [str(mistake) for mistake in checked.mistakes]


def rules(*lines: str, **keys: str) -> str:
    """A policy with these rules, one a line, and these other keys."""
    others = "".join(f"{key}: {value}\n" for key, value in keys.items())
    return "version: 1\nname: p\nrules:\n" + "".join(f"  - {line}\n" for line in lines) + others
