"""Error review: the questions put to people about documents, and what they answered."""
