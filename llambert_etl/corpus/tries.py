"""Which failures count against a document, and how many of them are enough."""

import polars as pl

# In so many runs a document may fail before it is not asked about any more. Each costs up to the server's patience; a
# server that was mended between two nights has had a night to show it.
MAX_TRIES = 3
GIVEN_UP = "given_up"
# Reasons, by their first word, that say nothing of the document: the server was given up, did not come to it, or had
# too much to do.
NOT_ITS_FAULT = frozenset(
    {GIVEN_UP, "not_recorded", "not_in_batch", "batch_expired", "batch_cancelled", "http_429", "rate_limit_exceeded"}
)


def blames_the_document() -> pl.Expr:
    """Choose failed rows that count as a try."""
    first = pl.col("reason").fill_null("").str.split(" ").list.first()
    return ~first.is_in(sorted(NOT_ITS_FAULT))
