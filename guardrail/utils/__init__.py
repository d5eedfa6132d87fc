"""What has nothing to do with models: JSON, files that are written whole, and files that are gone on with."""
