"""What scoring needs of a finished run: kept states, and its last columns computed again with gradients."""
