"""The demo: a local model's answers in the browser, each with its confidence. ``guardrail demo`` starts it.

Pages are plain functions over guardrail's public interface; nothing is decided here.
"""
