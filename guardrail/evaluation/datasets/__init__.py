"""Questions with accepted answers: those that papers report on, and files in any of the common shapes."""
