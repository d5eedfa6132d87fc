"""Metrics of how good a confidence is: figures of (confidence, correct) with n and interval.

Each metric is a function of two arrays whose last axis is the answers; axes before it are resamples,
evaluated separately. Confidence goes **up** when the model is surer: for an uncertainty, pass the negative. A
metric that is undefined for the given labels is NaN; ``measure`` makes a figure that says why.

``ranking``: AUROC, AUPRC, risk-coverage, AURC, PRR. ``reliability``: Brier score, ECE. ``intervals`` adds an
interval to any of them, and ``figure`` is the result.
"""
