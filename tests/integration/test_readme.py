"""What README shows in Python runs as it stands there; docs/ are in tests/docs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


def blocks(path, language):
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


def run(block, path, names):
    exec(compile(block, str(path), "exec"), names)


def test_readme_is_read_to_its_end():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_the_line_for_contributors_has_the_form_that_continuous_integration_looks_for():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if re.match(r"^pip install .*\[dev\].* && pytest$", line)]) == 1


def test_readme_shows_the_guard_the_chat_model_and_the_scores():
    together = "\n".join(blocks(README, "python"))
    assert all(name in together for name in ("Guard.from_policy", "ChatGuardrail", "guardrail.score"))


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks(README, "python"), ids=lambda block: block.strip().splitlines()[0])
def test_a_block_runs_as_it_stands(block, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(block, README, {"__name__": "__main__"})
    assert capsys.readouterr().out.strip()


@pytest.mark.slow
def test_the_policy_that_readme_shows_has_no_mistake_but_its_example_profile(tmp_path):
    from guardrail.policy.load import check_policy

    (policy,) = blocks(README, "yaml")
    path = tmp_path / "policy.yaml"
    path.write_text(policy.replace("./profiles/qwen3-4b.json", "auto"), encoding="utf-8")
    checked = check_policy(path)
    assert checked.mistakes == ()
    assert checked.policy is not None
