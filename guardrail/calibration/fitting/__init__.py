"""From labelled answers to a Profile: what is fitted, on which of them, and how it is chosen.

``fit`` is the door (``fit_profile``, ``reference_profile``) and ``options`` what it is asked. The answers are
drawn into three disjoint parts (``split``). On the first, ``cross_fitting`` makes the sums that rank answers
(``inputs``, ``probe``) so that none is judged by what it taught, ``calibrators`` makes probabilities of them,
and ``selection`` chooses. The second certifies thresholds, the third is reported on.

numpy and scikit-learn live here; ``options`` loads neither.
"""
