"""Reports for people: on a terminal, as HTML and Markdown, and as charts (only those load matplotlib)."""
