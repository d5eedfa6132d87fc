"""Questions asked, answers judged right or wrong, and kept: what calibration and evaluation share."""
