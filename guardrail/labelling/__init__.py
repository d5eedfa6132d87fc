"""Questions, answers judged right or wrong, and their files: shared by calibration and evaluation."""
