"""Measurements of the library and of the scores it gives."""
