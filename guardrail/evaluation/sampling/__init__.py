"""Baselines that draw several answers, or ask the model about its own."""
