"""Failures: what an annotator broke off with, and replies that blame it and not their documents."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from llambert_etl.corpus.tries import GIVEN_UP, NOT_ITS_FAULT
from llambert_etl.llm import HalfAnsweredError, HalfRefusedError, Reply

Fault = HalfAnsweredError | HalfRefusedError


def judged(judge: Callable[[], list[Reply]]) -> tuple[list[Reply], Fault | None]:
    """Return the replies about a batch, and the fault that the annotator broke off with, if it did."""
    try:
        return judge(), None
    except (HalfAnsweredError, HalfRefusedError) as error:
        return error.replies, error


def without_blame(replies: Sequence[Reply]) -> list[Reply]:
    """Return the replies with failures marked as those of a server that was given up; what was seen stays beside it."""
    return [
        each
        if each.is_answer or (each.reason or "").partition(" ")[0] in NOT_ITS_FAULT
        else replace(each, reason=f"{GIVEN_UP} {each.reason}")
        for each in replies
    ]
