"""Uncertainty guardrails for LLM apps that run a local model."""
