"""``python -m guardrail``: the same as the command ``guardrail``."""

from guardrail.cli import main

main()
