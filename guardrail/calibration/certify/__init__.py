"""Thresholds with a guarantee: of the answers let through, at most so many are wrong, with this confidence.

``plan`` decides on the fit part how to search; ``certify`` searches on the certify part, which nothing else
has seen. docs/guarantee.md says what is promised and what is not.
"""

from guardrail.calibration.certify.boundary import fewest_needed
from guardrail.calibration.certify.plan import Band, FixedSequence, Plan, Search, default_search, plan
from guardrail.calibration.certify.threshold import certify

__all__ = ["Band", "FixedSequence", "Plan", "Search", "certify", "default_search", "fewest_needed", "plan"]
