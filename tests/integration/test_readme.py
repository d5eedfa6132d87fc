"""What README and docs show in Python runs as it stands there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


def blocks(path, language):
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)


PAGES = [path for path in sorted((ROOT / "docs").glob("*.md")) if blocks(path, "python")]


def run(block, path, names):
    exec(compile(block, str(path), "exec"), names)


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
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    """Its YAML is in the files that it names in its first line."""
    monkeypatch.chdir(tmp_path)
    for text in blocks(page, "yaml"):
        if name := re.match(r"# (\S+\.yaml)\n", text):
            Path(name[1]).write_text(text, encoding="utf-8")
    names = {"__name__": "__main__"}
    for block in blocks(page, "python"):
        run(block, page, names)


@pytest.mark.slow
def test_the_policy_that_readme_shows_has_no_mistake_but_its_example_profile(tmp_path):
    from guardrail.policy.load import check_policy

    (policy,) = blocks(README, "yaml")
    path = tmp_path / "policy.yaml"
    path.write_text(policy.replace("./profiles/qwen3-4b.json", "auto"), encoding="utf-8")
    checked = check_policy(path)
    assert checked.mistakes == ()
    assert checked.policy is not None
