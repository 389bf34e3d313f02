"""Annotate with a server that is slow now and then: its slots stay full, and little is paid twice after a kill."""

import os
import signal
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest

from llambert_etl.annotation import side_by_side
from llambert_etl.annotation.backlog import Backlog
from llambert_etl.errors import ConfigError
from llambert_etl.lake import Lake
from llambert_etl.llm import Reply
from llambert_etl.llm.served import Talk
from llambert_etl.llm.served_batch import Requests
from llambert_etl.settings import Settings
from tests.fakes.llm import FakeLlm, error
from tests.fakes.server import Answer
from tests.given.exporting import wait_until
from tests.given.served import served_task
from tests.given.served_corpus import ASKED_ONCE, BATCH, DOCUMENTS, corpus_of, rows, run_annotate, settings, start

SLOTS = BATCH // 4
SLOW = 3 * BATCH  # answers that come before the one that was asked for first


class SlowOnce:
    """Holds the first question back until others are answered, and the others until all slots are taken."""

    def __init__(self, llm: FakeLlm, until: int) -> None:
        self._llm, self._until = llm, until
        self._first: str | None = None
        self.in_vain: list[str] = []
        llm.fault = self._hold

    def _hold(self, text: str, nth: int) -> None:
        with self._llm.reached:
            self._first = self._first or text
            if not self._llm.reached.wait_for(self._comes_first if text == self._first else self._all_busy, 10.0):
                self.in_vain.append(text)

    def _comes_first(self) -> bool:
        return self._llm.answered.total() >= self._until

    def _all_busy(self) -> bool:
        return self._llm.at_once == SLOTS or self._llm.asked.total() == DOCUMENTS


@pytest.fixture
def here(llm: FakeLlm, tmp_path: Path) -> Settings:
    return settings(llm, tmp_path)


@pytest.fixture
def corpus(here: Settings) -> Lake:
    return corpus_of(here)


def test_a_slow_answer_keeps_none_of_the_other_slots_empty(corpus: Lake, here: Settings, llm: FakeLlm) -> None:
    slow = SlowOnce(llm, until=DOCUMENTS - SLOTS)
    assert run_annotate(corpus, here, served_task()).rows["labelled"] == DOCUMENTS
    assert slow.in_vain == []
    assert (llm.most_at_once, llm.asked) == (SLOTS, ASKED_ONCE)


def test_a_kill_beside_a_slow_answer_repeats_no_more_than_a_batch(corpus: Lake, here: Settings, llm: FakeLlm) -> None:
    SlowOnce(llm, until=DOCUMENTS)
    with start(here) as killed:
        llm.wait_for(answers=SLOW)
        os.kill(killed.pid, signal.SIGKILL)
        killed.communicate()
    asked, kept = llm.asked.total(), len(rows(corpus))
    assert asked - kept <= BATCH
    llm.fault = lambda text, nth: None
    assert run_annotate(corpus, here, served_task()).rows["reused"] == kept
    assert set(llm.asked) == set(ASKED_ONCE)
    assert sum(times - 1 for times in llm.asked.values()) == asked - kept


def test_a_stop_commits_what_is_there_and_waits_for_what_is_sent_alone(
    corpus: Lake, here: Settings, llm: FakeLlm
) -> None:
    came, released = list[str](), False

    def hold(text: str, nth: int) -> None:
        with llm.reached:
            came.append(text)
            llm.reached.wait_for(lambda: released or text == came[0], 60.0)

    llm.fault = hold
    with start(here) as stopped:
        llm.wait_for(answers=1, asked=1 + SLOTS)
        stopped.terminate()
        wait_until(lambda: len(rows(corpus)) == 1)
        with llm.reached:
            released = True
            llm.reached.notify_all()
        said = stopped.communicate(timeout=20)[1]
    assert stopped.returncode == 75, said
    assert len(rows(corpus)) == llm.asked.total() == 1 + SLOTS


def test_what_was_not_asked_when_another_run_was_first_is_asked_later(
    corpus: Lake, here: Settings, llm: FakeLlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, ask = list[object](), Talk.ask

    def noted(self: Talk, requests: Requests, text: str) -> Future[Reply | None]:
        asked.append(ask(self, requests, text))
        return asked[-1]

    class AllAtOnce(SimpleQueue[Future[Reply | None]]):
        """Lets commits find nothing under way, but for one in the middle of the last batch but one."""

        taken = 0

        def get(self, block: bool = True, timeout: float | None = None) -> Future[Reply | None]:
            AllAtOnce.taken += 1
            return super().get()

        def get_nowait(self) -> Future[Reply | None]:
            if self.taken in (DOCUMENTS - 2 * BATCH + BATCH // 2, len(asked)):
                raise Empty
            return self.get()

    monkeypatch.setattr(Talk, "ask", noted)
    monkeypatch.setattr(side_by_side, "SimpleQueue", AllAtOnce)
    monkeypatch.setattr(Backlog, "outrun", property(lambda _: AllAtOnce.taken == len(asked)))
    assert run_annotate(corpus, here, served_task()).rows["labelled"] == DOCUMENTS
    assert llm.asked == ASKED_ONCE


def test_an_answer_that_is_under_way_when_the_server_refuses_us_is_kept(
    corpus: Lake, here: Settings, llm: FakeLlm
) -> None:
    came = list[str]()

    def refuse(text: str, nth: int) -> Answer | None:
        with llm.lock:
            came.append(text)
        if text == came[0]:
            wait_until(lambda: any(row["status"] == "failed" for row in rows(corpus)))
            return None
        return error(401, "invalid_api_key") if llm.answered.total() >= BATCH + 2 else None

    llm.fault = refuse
    with pytest.raises(ConfigError, match="refuses the key"):
        run_annotate(corpus, here, served_task())
    answered = {row["id"] for row in rows(corpus) if row["status"] == "labelled"}
    assert len(answered) == llm.answered.total() == BATCH + 3
