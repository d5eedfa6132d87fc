"""How good a confidence is: figures of (confidence, correct), each with its n and its interval.

Each metric is a function of two arrays whose last axis is the answers; axes before it are resamples, each
judged on its own. Confidence goes **up** when the model is surer: of an uncertainty, pass the negative.
A metric that is not defined for the labels it is given is NaN; ``measure`` makes a figure that says why.

``ranking``: AUROC, AUPRC, risk-coverage, AURC, PRR. ``reliability``: Brier score, ECE. ``intervals`` puts an
interval around any of them, and ``figure`` is the result.
"""
