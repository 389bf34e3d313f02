"""SideBySide: a backlog asked about with as many requests under way as the server takes, and committed behind them."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue

import polars as pl

from llambert_etl.annotation.backlog import Backlog
from llambert_etl.annotation.failures import judged
from llambert_etl.annotation.sent import refuse_sent
from llambert_etl.errors import LlambertError
from llambert_etl.llm import Reply
from llambert_etl.llm.served import ServedAnnotator, Talk

# An answer that is paid waits no longer for its commit, however few have come with it.
_COMMIT_SECONDS = 5.0
_LOOK_SECONDS = 1.0  # between looks at the clock, and for a signal, while no answer comes


class _Batch:
    """Documents that are judged together where some of them fail. Their replies come in any order."""

    def __init__(self, documents: pl.DataFrame, talk: Talk) -> None:
        self.documents, self.requests = documents, talk.batch()
        self.given = 0
        self.replies: dict[int, Reply | None] = {}

    @property
    def takes_more(self) -> bool:
        return self.given < self.documents.height and not self.requests.withdrawn

    @property
    def is_over(self) -> bool:
        return not self.takes_more and len(self.replies) == self.given


class SideBySide:
    """What is asked of a server, and not committed yet, is never more than a batch: a kill repeats no more than that.

    Half of it is committed while the other half keeps the server busy. Until the server is understood, one batch
    follows the other, for its address may be wrong.
    """

    def __init__(self, work: Backlog, annotator: ServedAnnotator, talk: Talk, clock: Callable[[], float]) -> None:
        self._work, self._annotator, self._talk, self._clock = work, annotator, talk, clock
        self._left, self._batches = work.documents, list[_Batch]()
        self._asked: dict[Future[Reply | None], tuple[_Batch, int]] = {}  # what is under way, or waits for a slot
        self._replies, self._since = SimpleQueue[Future[Reply | None]](), clock()

    def run(self, stop: threading.Event, progress: Callable[[int, int], None]) -> None:
        """Ask until everything is answered, or until `stop`; what is sent by then is waited for."""
        work = self._work
        try:
            while not stop.is_set() and self._feed():
                with suppress(Empty):
                    self._take(self._replies.get(timeout=_LOOK_SECONDS))
                    while True:
                        self._take(self._replies.get_nowait())
                self._settle()
                progress(work.done, work.documents.height)
                self._commit()
        except LlambertError:
            self._finish()
            raise
        self._finish()
        progress(work.done, work.documents.height)

    def _feed(self) -> bool:
        """Hand documents to the server as far as there is room; return whether any are under way."""
        self._settle()  # once more: what a commit has withdrawn may have nothing under way
        while len(self._asked) + self._work.pending < self._annotator.batch_size:
            if not (self._batches and self._batches[-1].takes_more) and not self._begin_batch():
                break
            batch = self._batches[-1]
            asked = self._talk.ask(batch.requests, batch.documents["text"][batch.given])
            self._asked[asked] = batch, batch.given
            batch.given += 1
            asked.add_done_callback(self._replies.put)
        return bool(self._asked)

    def _begin_batch(self) -> bool:
        """Take the next documents in hand; what speaks against that is told when those are back that are under way."""
        work = self._work
        first = not self._batches
        if self._left.is_empty() or any(batch.requests.in_doubt for batch in self._batches):
            return False
        if not first and (not self._annotator.is_understood or work.may_use_up(len(self._asked))):
            return False
        self._left = work.next_ones(self._left)
        if self._left.is_empty():
            return False
        try:
            refuse_sent(work)
            work.check_budget()
        except LlambertError:
            if self._asked:
                return False
            raise
        size = self._annotator.batch_size
        self._batches.append(_Batch(self._left.head(size), self._talk))
        self._left = self._left.slice(size)
        return True

    def _take(self, asked: Future[Reply | None]) -> None:
        """Keep a reply that is an answer."""
        batch, number = self._asked.pop(asked)
        if not self._work.pending:
            self._since = self._clock()
        batch.replies[number] = reply = asked.result()
        if reply is not None and reply.is_answer:
            self._work.keep(batch.documents[number : number + 1], [reply])

    def _settle(self) -> None:
        """Judge the failures of each batch that is over, and put back what was not asked."""
        for batch in [each for each in self._batches if each.is_over]:
            self._batches.remove(batch)
            self._judge(batch)

    def _judge(self, batch: _Batch) -> None:
        asked = {number: reply for number, reply in sorted(batch.replies.items()) if reply is not None}
        rest = [number for number in range(batch.documents.height) if number not in asked]
        self._left = pl.concat([batch.documents[rest], self._left])
        failures = {number: reply for number, reply in asked.items() if not reply.is_answer}
        others = len(asked) - len(failures)
        replies, fault = judged(lambda: self._talk.judge(batch.requests, list(failures.values()), others))
        if asked:
            failed = batch.documents[list(failures)]
            self._work.settle(self._talk.annotate, failed, replies, fault, alone=not others)

    def _commit(self) -> None:
        """Commit what fills half a batch or is some seconds old; where another run was first, change the order."""
        work = self._work
        due = work.pending >= self._annotator.batch_size // 2 or self._clock() - self._since >= _COMMIT_SECONDS
        if work.pending and due:
            work.commit()
            if work.outrun:
                for batch in self._batches:
                    batch.requests.withdrawn = True

    def _finish(self) -> None:
        """Ask no more; keep what is answered of what is under way, and leave the rest to the next run."""
        self._talk.end()
        self._work.commit()
        while self._asked:
            self._take(self._replies.get())
        self._work.commit()
