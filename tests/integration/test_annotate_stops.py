"""The annotate step batch by batch: what is committed when, and what is left when it is stopped."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from itertools import count
from types import SimpleNamespace

import pytest

from llambert_etl.annotation.backlog import Backlog
from llambert_etl.annotation.side_by_side import SideBySide
from llambert_etl.errors import DataError, TransientError
from llambert_etl.lake import Lake
from llambert_etl.llm import Reply
from llambert_etl.llm.spending import Spending
from llambert_etl.run import Run
from tests.given.annotating import DAY, RuleAnnotator, annotations, even, ingest, run_annotate
from tests.given.tasks import make_task


def _slow_clock() -> Callable[[], float]:
    """Return a clock on which every look is a minute after the last: each call of the annotator is committed."""
    minutes: Iterator[int] = count()
    return lambda: 60.0 * next(minutes)


def _killed(call: int) -> Callable[[int], None]:
    def before(now: int) -> None:
        if now == call:
            raise KeyboardInterrupt

    return before


def test_a_kill_loses_the_batch_in_flight_and_nothing_else(lake: Lake) -> None:
    ingest(lake, make_task(), DAY, range(20))
    killed = RuleAnnotator(even, before=_killed(call=4))
    with pytest.raises(KeyboardInterrupt):
        run_annotate(lake, killed, clock=_slow_clock())
    assert len(annotations(lake)) == len(killed.asked) == 12
    again = RuleAnnotator(even)
    done = run_annotate(lake, again)
    assert not set(killed.asked) & set(again.asked)
    assert done.rows == {"read": 20, "labelled": 8, "unparsed": 0, "failed": 0, "reused": 12}
    assert len({row["text_hash"] for row in annotations(lake)}) == len(annotations(lake)) == 20


def test_batches_younger_than_a_minute_are_committed_together(lake: Lake) -> None:
    ingest(lake, make_task(), DAY, range(20))
    before = lake.version("annotations")
    run_annotate(lake, RuleAnnotator(even), clock=lambda: 0.0)
    assert lake.version("annotations") == before + 1


def test_sigterm_commits_the_batch_in_flight_and_is_transient(lake: Lake) -> None:
    ingest(lake, make_task(), DAY, range(20))

    def stop(call: int) -> None:
        if call == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TransientError, match="after 8 of 20 documents; they are committed"):
        run_annotate(lake, RuleAnnotator(even, before=stop))
    assert len(annotations(lake)) == 8
    assert signal.getsignal(signal.SIGTERM) == before
    assert run_annotate(lake, RuleAnnotator(even)).rows["reused"] == 8


def test_sigterm_in_the_last_batch_finishes_the_step(lake: Lake) -> None:
    ingest(lake, make_task(), DAY, range(4))
    stop = RuleAnnotator(even, before=lambda call: os.kill(os.getpid(), signal.SIGTERM))
    assert run_annotate(lake, stop).rows["labelled"] == 4


def test_the_last_commit_carries_the_account_of_the_run(lake: Lake) -> None:
    ingest(lake, make_task(), DAY, range(10))
    done = run_annotate(lake, RuleAnnotator(even), clock=_slow_clock())
    commit = next(lake.commits("annotations", "reviews"))
    assert commit.manifest is not None
    assert commit.manifest.rows == done.rows
    assert done.versions_written == {"annotations": commit.version}


def test_any_annotator_stops_when_its_tokens_are_used_up(lake: Lake) -> None:
    ingest(lake, make_task(), DAY, range(10))
    with pytest.raises(DataError, match="24 of 20 tokens in run .r1.; 2 documents are left to ask"):
        run_annotate(lake, RuleAnnotator(even), task=make_task(annotator={"budget": {"tokens": 20}}))


def test_progress_is_told_after_each_batch(lake: Lake) -> None:
    ingest(lake, make_task(), DAY, range(10))
    seen: list[tuple[int, int]] = []
    run_annotate(lake, RuleAnnotator(even), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 10), (8, 10), (10, 10)]


class ByHand:
    """A server that answers the oldest question each time that it is told to, and the first one at once."""

    def __init__(self, lake: Lake) -> None:
        self._lake, self._open = lake, list[tuple[Future[Reply | None], str]]()
        self.asked = self.most = 0

    def batch(self) -> SimpleNamespace:
        return SimpleNamespace(withdrawn=False, in_doubt=False)

    def ask(self, batch: object, text: str) -> "Future[Reply | None]":
        self._open.append((Future(), text))
        self.asked += 1
        self.most = max(self.most, self.asked - len(annotations(self._lake)))
        asked = self._open[-1][0]
        if self.asked == 1:
            self.answer()
        return asked

    def answer(self) -> None:
        if self._open:
            asked, text = self._open.pop(0)
            asked.set_result(RuleAnnotator(even).annotate([text])[0])

    def judge(self, batch: object, replies: list[Reply], others: int) -> list[Reply]:
        return replies

    def annotate(self, texts: Sequence[str]) -> list[Reply]:
        raise NotImplementedError

    def end(self) -> None:
        """Nothing is left to be ended."""


def test_what_is_asked_and_not_committed_is_never_more_than_a_batch(lake: Lake) -> None:
    ingest(lake, make_task(), DAY, range(30))
    annotator, server = RuleAnnotator(even, batch_size=8), ByHand(lake)
    annotator.is_understood = True  # type: ignore[attr-defined]
    run, spending = Run(make_task(), DAY, "r1"), Spending(make_task().annotator)
    work = Backlog(run, lake=lake, annotator=annotator, prompt_hash="p1", spending=spending)
    asking = SideBySide(work, annotator, server, lambda: 0.0)  # type: ignore[arg-type]
    asking.run(threading.Event(), lambda done, total: server.answer())
    assert (server.asked, len(annotations(lake))) == (30, 30)
    assert server.most == annotator.batch_size
