"""Calibration: from scores of judged answers to P(correct), certified thresholds and the Profile file."""
