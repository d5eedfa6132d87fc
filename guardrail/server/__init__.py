"""The guard behind the HTTP interface of OpenAI's chat completions: what ``guardrail serve`` runs."""
