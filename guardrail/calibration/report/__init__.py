"""What a person reads of a profile: on the terminal, and as one HTML file.

``terminal`` (``print_profile``) and ``html`` (``html_report``, ``write_report``) are the doors. What they
share: ``verdict`` (sentences), ``rows`` (figures and thresholds), ``facts`` (how a profile was made) and
``words`` (numbers as text). ``plots`` draws ``held_out`` answers; nothing else loads matplotlib.
"""
