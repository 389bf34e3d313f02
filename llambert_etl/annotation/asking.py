"""Asking about a whole backlog until it is done or somebody asks to stop: batch by batch, or a server side by side."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from llambert_etl.annotation.backlog import Backlog
from llambert_etl.annotation.sent import refuse_sent
from llambert_etl.annotation.side_by_side import SideBySide
from llambert_etl.errors import TransientError
from llambert_etl.llm import Annotator
from llambert_etl.llm.served import ServedAnnotator
from llambert_etl.signals import handling

# A batch is committed when it has this age or, where one call of the annotator takes longer, after the call.
COMMIT_SECONDS = 60.0


def answer(
    work: Backlog,
    annotator: Annotator,
    progress: Callable[[int, int], None],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Ask about every document of the backlog that no other run has answered by then, and commit on the way.

    On SIGTERM what is under way is finished and committed, then TransientError is raised; a second SIGTERM, or a kill,
    loses that and nothing else. Raise DataError, before the next batch, where the task's budget is used up, and
    ConfigError where a batch file is out.
    """
    with stop_signal() as stop:
        if isinstance(annotator, ServedAnnotator):
            with annotator.talk() as talk:
                SideBySide(work, annotator, talk, clock).run(stop, progress)
        else:
            _batch_by_batch(work, annotator, progress, clock, stop)
        work.commit()
        if stop.is_set() and work.done < work.documents.height:
            raise TransientError(
                f"{work.step} {work.task.name} {work.partition}: asked to stop after {work.done} of "
                f"{work.documents.height} documents; they are committed, run it again for the rest"
            )


def _batch_by_batch(
    work: Backlog,
    annotator: Annotator,
    progress: Callable[[int, int], None],
    clock: Callable[[], float],
    stop: threading.Event,
) -> None:
    # What is paid for is committed at once.
    age = 0.0 if work.task.annotator.remote else COMMIT_SECONDS
    committed, left = clock(), work.documents
    while not stop.is_set() and not (left := work.next_ones(left)).is_empty():
        refuse_sent(work)  # before each batch: another run may have claimed the same documents meanwhile
        work.check_budget()
        work.ask(annotator, left.head(annotator.batch_size))
        left = left.slice(annotator.batch_size)
        progress(work.done, work.documents.height)
        if clock() - committed >= age:
            work.commit()
            committed = clock()


@contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """Turn SIGTERM into an event for as long as the context lasts."""
    stop = threading.Event()

    def ask_to_stop(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise SystemExit(TransientError.exit_code)  # no error of a step: nothing on the way may catch it
        stop.set()

    with handling(ask_to_stop, signal.SIGTERM):
        yield stop
