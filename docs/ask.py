"""Makes docs/ask.svg, the picture in README.md. Run it as ``python docs/ask.py``."""

import re
from io import StringIO
from pathlib import Path

from rich.console import Console

import guardrail
from guardrail.cli.render import print_answer

QUESTION = "What is the capital of France, and what is it known for? Answer in one sentence."

model = guardrail.LocalModel.load()
trace = model.generate(QUESTION, guardrail.Sampling(max_tokens=80))
console = Console(record=True, width=92, force_terminal=True, color_system="truecolor", file=StringIO())
console.print(f'[bold]$ guardrail ask "{QUESTION}"')
console.print()
options = guardrail.with_known_token(guardrail.ScoringOptions(), model)
print_answer(console, trace, guardrail.score(model, trace, options))
svg = console.export_svg(title="guardrail ask")
# The theme would fetch its font from the network; the browser's own will do.
svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
Path(__file__).with_name("ask.svg").write_text(svg, encoding="utf-8")
