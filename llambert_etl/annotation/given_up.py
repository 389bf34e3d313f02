"""Replies of a run that failed: whether the document is to blame, or a server that was given up."""

from collections.abc import Sequence
from dataclasses import replace

from llambert_etl.corpus.tries import GIVEN_UP, NOT_ITS_FAULT
from llambert_etl.llm import Reply
from llambert_etl.schemas import AnnotationStatus


def is_answered(reply: Reply) -> bool:
    return reply.status != AnnotationStatus.FAILED


def without_blame(replies: Sequence[Reply]) -> list[Reply]:
    """Return the replies with failures marked as those of a server that was given up; what was seen stays beside it."""
    return [reply if is_answered(reply) or _blameless(reply) else _given_up(reply) for reply in replies]


def _blameless(reply: Reply) -> bool:
    return (reply.reason or "").partition(" ")[0] in NOT_ITS_FAULT


def _given_up(reply: Reply) -> Reply:
    return replace(reply, reason=f"{GIVEN_UP} {reply.reason}")
