"""The truncated backward: cached activations of a run, and its last columns computed again with gradients."""
