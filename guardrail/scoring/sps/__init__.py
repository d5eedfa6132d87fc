"""The Semantic Preservation Score: which token of a prompt holds its meaning, found by paraphrases."""
