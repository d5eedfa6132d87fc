"""What README shows in Python runs as it stands there."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_readme_shows_the_guard_the_chat_model_and_the_scores():
    together = "\n".join(BLOCKS)
    assert all(name in together for name in ("Guard.from_policy", "ChatGuardrail", "guardrail.score"))


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.strip().splitlines()[0])
def test_a_block_runs_as_it_stands(block, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, str(README), "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.strip()


@pytest.mark.slow
def test_the_policy_that_readme_shows_has_no_mistake_but_its_example_profile(tmp_path):
    from guardrail.policy.loading import check_policy

    (policy,) = re.findall(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path / "policy.yaml"
    path.write_text(policy.replace("./profiles/qwen3-4b.json", "auto"), encoding="utf-8")
    checked = check_policy(path)
    assert checked.mistakes == ()
    assert checked.policy is not None
