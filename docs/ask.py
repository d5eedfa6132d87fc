"""Makes docs/images/ask.svg, the picture in README.md. Run it as ``python docs/ask.py``."""

import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

from rich.console import Console

import guardrail
from guardrail.cli.render import print_guarded

POLICY = "builtin:default"
QUESTIONS = ("What is the capital of France?", "Which element has the atomic number 109?")

guard = guardrail.Guard.from_policy(POLICY)
console = Console(record=True, width=92, force_terminal=True, color_system="truecolor", file=StringIO())
for question in QUESTIONS:
    console.print(f'[bold]$ guardrail ask "{question}" --policy {POLICY}')
    console.print()
    # How long it took says more about the machine that draws the picture than about the answer.
    print_guarded(console, replace(guard.ask(question), timings={}), guard.policy.name)
    console.print()
svg = console.export_svg(title="guardrail ask")
# The theme would fetch its font from the network; the browser's own will do.
svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
Path(__file__).with_name("images").joinpath("ask.svg").write_text(svg, encoding="utf-8")
