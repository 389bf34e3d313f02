"""Where documents come from: allow-listed objects, read row by row in bounded memory, cleaned one at a time."""
