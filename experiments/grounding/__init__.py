"""Whether it tells right answers from wrong ones how much the document in the prompt moved the answer."""
