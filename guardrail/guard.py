"""Guard: the pipeline; the only room where all stages meet."""
