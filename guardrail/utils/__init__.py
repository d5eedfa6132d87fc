"""What any program might need: nothing here knows of models, answers or policies."""
