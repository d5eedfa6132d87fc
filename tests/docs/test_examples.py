"""Every example of the site runs as it stands: page by page, in one folder and one namespace.

YAML is in the file that its first line names. Python runs in the order of the page. Shell blocks run where
they are cheap: commands that load no model, without a placeholder to be filled in.
"""

import re
import shlex
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from guardrail.cli.main import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DATA = ROOT / "guardrail" / "data"

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_CHEAP = ("guardrail policy ", "guardrail profile ", "guardrail queue ")
_PLACEHOLDER = re.compile(r"\b[A-Z]{4,}\b")


class Block(NamedTuple):
    language: str
    text: str

    @property
    def file(self):
        found = re.match(r"# (\S+\.yaml)\n", self.text)
        return found[1] if self.language == "yaml" and found else None

    @property
    def is_cheap(self):
        lines = self.text.splitlines()
        return self.language == "bash" and all(
            line.startswith(_CHEAP) and not _PLACEHOLDER.search(line) for line in lines
        )


def blocks(page):
    return [Block(*found) for found in _BLOCK.findall(page.read_text(encoding="utf-8"))]


PAGES = [
    page
    for page in sorted(DOCS.rglob("*.md"))
    if any(block.language == "python" or block.is_cheap for block in blocks(page))
]


def run_commands(text):
    for line in text.splitlines():
        expected = re.search(r"# exit status (\d+)$", line)
        done = CliRunner().invoke(app, shlex.split(line, comments=True)[1:])
        assert done.exit_code == int(expected[1] if expected else 0), f"{line}\n{done.output}"
        assert done.output.strip(), line


def test_pages_of_every_kind_have_examples():
    assert {page.parent.name for page in PAGES} >= {"docs", "tutorials", "how-to", "reference"}


@pytest.mark.slow
@pytest.mark.untraced
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Making a profile takes minutes, and other tests do; the pages go on with the one that ships.
    shutil.copy(DATA / "profiles" / "smollm2-135m.json", "profile.json")
    shutil.copy(DATA / "held_out" / "smollm2-135m.jsonl", "profile.answers.jsonl")
    names = {"__name__": "__main__"}
    for block in blocks(page):
        if block.file:
            Path(block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile(block.text, str(page), "exec"), names)
        elif block.is_cheap:
            run_commands(block.text)
