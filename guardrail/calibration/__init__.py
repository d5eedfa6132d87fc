"""Answers judged right or wrong; scores to P(correct); certified thresholds; the Profile file."""
