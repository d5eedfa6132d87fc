"""A guard within an agent of ``langchain.agents.create_agent``."""

from guardrail.langchain.middleware.agents import UncertaintyMiddleware
from guardrail.langchain.middleware.uncertain import when_uncertain

__all__ = ["UncertaintyMiddleware", "when_uncertain"]
