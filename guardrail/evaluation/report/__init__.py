"""A comparison of methods for people: on a terminal, as one HTML file, as Markdown."""
