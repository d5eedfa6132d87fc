"""The command line: one file a command, no logic. ``main`` is what the command ``guardrail`` runs."""

from guardrail.cli.main import main

__all__ = ["main"]
