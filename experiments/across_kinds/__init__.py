"""What becomes of a confidence on a kind of questions that it was not fitted on?"""
