"""Every line of the security page that claims something has a test, and the test exists."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "security.md").read_text(encoding="utf-8")


def test_every_claim_names_a_test_that_there_is():
    holds = PAGE.partition("## What holds")[2].partition("\n## ")[0]
    rows = [line for line in holds.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    files = (ROOT / "tests").rglob("test_*.py")
    there = {name for path in files for name in re.findall(r"def (test_\w+)\(", path.read_text("utf-8"))}
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row.rsplit("|", 2)[1])
        assert named, row
        assert set(named) <= there, row
