"""How soon does a stream of answers show that its questions are of another kind?"""
