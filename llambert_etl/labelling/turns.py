"""Whose turn it is at a piece of work to which several processes may come at once: one works, the others wait for it.

A turn is a small file that its holder changes again and again. Who finds it held waits until the work is done, or until
the file has not changed for a while by the waiter's own clock: its holder has died, and the waiter takes over. No two
clocks are compared. A holder that was only held up works on beside the other: work done twice must do no harm.
"""

import contextlib
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from llambert_etl.errors import LlambertError
from llambert_etl.settings import Settings
from llambert_etl.store.atomic import edit_file

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 60.0
_FREE = json.dumps({"holder": ""}).encode()
_BEATS = 6  # within the patience of who waits


@contextmanager
def turn(
    key: str, run: str, settings: Settings, *, done: Callable[[], bool], patience: float = PATIENCE_SECONDS
) -> Iterator[None]:
    """Wait until the work is `done` or this process's turn at it has come, and hold the turn during the block.

    A run does not wait for itself: whoever starts it again has seen its earlier process end.
    """
    mine = _Turn(key, run, settings)
    if not mine.wait(done, patience):
        yield
        return
    ended = threading.Event()
    beating = threading.Thread(target=mine.beat, args=(ended, patience / _BEATS), daemon=True)
    beating.start()
    try:
        yield
    finally:
        ended.set()
        beating.join()
        mine.release()


class _Turn:
    def __init__(self, key: str, run: str, settings: Settings) -> None:
        self._key, self._run, self._settings = key, run, settings
        self._holder, self._count = uuid.uuid4().hex, 0

    def wait(self, done: Callable[[], bool], patience: float) -> bool:
        """Return whether this process now holds the turn; it does not where the work was done meanwhile."""
        seen, since = b"", time.monotonic()
        dead: bytes | None = None
        while not done():
            found = edit_file(self._key, partial(self._taken, dead), self._settings)
            if self._is_mine(found):
                return True
            if found != seen:
                if not seen:
                    logger.info("%s: run %r is at it, waiting", self._key, json.loads(found)["run"])
                seen, since = found, time.monotonic()
            elif time.monotonic() - since > patience:
                logger.info("%s: its holder has not been heard of for %.0f s, taking over", self._key, patience)
                dead = found
            time.sleep(patience / _BEATS / 2)
        return False

    def beat(self, ended: threading.Event, every: float) -> None:
        """Change the file until the work has ended. A beat that fails is left out: one of the next will do."""
        while not ended.wait(every):
            try:
                if not self._is_mine(edit_file(self._key, self._beaten, self._settings)):
                    logger.warning("%s: another run has taken over, working on beside it", self._key)
                    return
            except LlambertError as error:
                logger.warning("%s: %s", self._key, error)

    def release(self) -> None:
        """Let the next in at once; where that fails, its patience will do."""
        with contextlib.suppress(LlambertError):
            edit_file(self._key, lambda old: _FREE if old is None or self._is_mine(old) else old, self._settings)

    def _taken(self, dead: bytes | None, old: bytes | None) -> bytes:
        if old is None or old in (_FREE, dead) or json.loads(old)["run"] == self._run:
            return self._mark()
        return old

    def _beaten(self, old: bytes | None) -> bytes:
        return old if old is not None and not self._is_mine(old) else self._mark()

    def _mark(self) -> bytes:
        self._count += 1
        return json.dumps({"run": self._run, "holder": self._holder, "beat": self._count}).encode()

    def _is_mine(self, content: bytes) -> bool:
        return bool(json.loads(content)["holder"] == self._holder)
