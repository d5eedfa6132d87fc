"""Figures for people: on a terminal, as HTML and Markdown, as charts (which alone load matplotlib)."""
