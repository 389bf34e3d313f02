"""Which failures count against a document, and how many of them are enough."""

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from llambert_etl.llm import Reply
from llambert_etl.schemas import AnnotationStatus

# In so many runs a document may fail before it is not asked about any more. Each costs up to the server's patience; a
# server that was mended between two nights has had a night to show it.
MAX_TRIES = 3
_GIVEN_UP = "given_up"
# Reasons, by their first word, that say nothing of the document: the server was given up, did not come to it, or had
# too much to do.
_NOT_ITS_FAULT = frozenset(
    {_GIVEN_UP, "not_recorded", "not_in_batch", "batch_expired", "batch_cancelled", "http_429", "rate_limit_exceeded"}
)


def blames_the_document() -> pl.Expr:
    """Choose failed rows that count as a try."""
    first = pl.col("reason").fill_null("").str.split(" ").list.first()
    return ~first.is_in(sorted(_NOT_ITS_FAULT))


def is_answered(reply: Reply) -> bool:
    return reply.status != AnnotationStatus.FAILED


def without_blame(replies: Sequence[Reply]) -> list[Reply]:
    """Return the replies with failures marked as those of a server that was given up; what was seen stays beside it."""
    return [reply if is_answered(reply) or _blameless(reply) else _given_up(reply) for reply in replies]


def _blameless(reply: Reply) -> bool:
    return (reply.reason or "").partition(" ")[0] in _NOT_ITS_FAULT


def _given_up(reply: Reply) -> Reply:
    return replace(reply, reason=f"{_GIVEN_UP} {reply.reason}")
