"""Experiments that anyone can run from a checkout; no part of the package. A folder an experiment."""
