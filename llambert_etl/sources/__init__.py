"""Where documents come from: allow-listed objects, read in columns and bounded memory, each row judged for itself."""
