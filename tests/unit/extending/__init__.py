"""One more source, annotator, export and gate, as docs/extending.md shows them."""
