"""What is known as of a day: documents, gold, the answers of the annotator, and what was forgotten."""
