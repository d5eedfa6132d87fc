"""Evaluation: uncertainty methods compared, and what they cost."""
