"""Elements that pages are built from."""
