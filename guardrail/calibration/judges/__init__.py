"""Who says whether an answer is right: by its words, its meaning, a function, or another model."""
