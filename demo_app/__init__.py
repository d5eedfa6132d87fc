"""The Streamlit demo, started by ``guardrail demo``: a local model's answers, each with its confidence.

Pages are plain functions over guardrail's public interface and decide nothing. They live in ``views/``
because Streamlit would serve a folder called ``pages/`` beside ``app.py`` by itself, and warn about it.
"""
