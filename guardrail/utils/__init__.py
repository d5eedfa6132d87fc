"""General-purpose helpers that know nothing of models, answers or policies."""
