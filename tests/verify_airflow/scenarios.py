"""What happens to a label run whose schedulers are killed, whose database goes away, or that is asked for twice."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil

from laptop.airflow_client import Run
from laptop.process import Server
from llambert_etl.partition import Partition
from tests.verify_airflow.judged import SHARDS, Judge
from tests.verify_airflow.production import Production, since

# As long as a restart takes, and then some; and longer than a task goes on trying to tell that it has ended.
_RESTART_SECONDS, _CRASH_SECONDS = 20.0, 45.0
# Two requests of a shard are held so long, one after the other: less than the store's client waits for an answer.
_HELD_SECONDS = 50.0

Seen = dict[str, Any]
Release = Callable[[], None]


class Scenarios:
    """Each takes a day of its own, and returns what was seen. What must hold and did not goes to the judge."""

    def __init__(self, production: Production, judge: Judge) -> None:
        self._production, self._judge = production, judge

    def scheduler_without_a_step_is_killed(self, day: Partition) -> Seen:
        """A shard is at work below one scheduler, and the other one is killed."""
        with self._shard_at_work(day) as (_, holder, release):
            other = next(server for server in self._production.schedulers if server is not holder)
            _kill(other.processes())
            release()
            return self._end(day, supervised=False)

    def scheduler_is_killed_with_all_below_it(self, day: Partition) -> Seen:
        """As a container ends, or a machine: scheduler, worker and step at once."""
        with self._shard_at_work(day) as (run, holder, release):
            killed = _kill(holder.processes())
            seen = self._taken_over(run, killed)
            release()
            return seen | self._end(day, supervised=False, again=1)

    def scheduler_is_killed_and_its_workers_live_on(self, day: Partition) -> Seen:
        """As the kernel ends the one process that has grown too big: the next try goes on with the first one's step."""
        with self._shard_at_work(day) as (run, holder, release):
            before = self._steps()
            killed = _kill([process for process in holder.processes() if process.pid == holder.pid])
            seen = self._taken_over(run, killed)
            self._production.wait("the end of the first try", lambda: not _at_work(holder))
            after = self._steps()
            self._judge.must(after <= before, day, f"the step was {before}, and is {after}")
            release()
            return seen | self._end(day, supervised=False) | {"idle_workers_left": len(holder.processes())}

    def database_is_stopped_and_started(self, day: Partition) -> Seen:
        """A fast shutdown. The step is at work until the database is back and Airflow with it."""
        with self._shard_at_work(day) as (_, _, release):
            before = self._steps()
            seen = self._outage(signal.SIGINT, _RESTART_SECONDS)
            after = self._steps()
            self._judge.must(after <= before, day, f"the step was {before}, and is {after}")
            release()
            return seen | self._end(day)

    def database_is_killed_and_the_step_ends_meanwhile(self, day: Partition) -> Seen:
        """The first process of PostgreSQL is killed, and the step's result has nowhere to go."""
        with self._shard_at_work(day) as (_, _, release):
            return self._outage(signal.SIGKILL, _CRASH_SECONDS, meanwhile=release) | self._end(day)

    def two_assets_with_one_key_at_one_moment(self, day: Partition) -> Seen:
        """Two ingests of a day by hand, and a champion announced for it while their documents are."""
        production = self._production
        production.settle()
        with production.events_held(day) as held:
            ingests = [production.trigger("ingest", day) for _ in range(2)]
            production.wait("the event of the documents", lambda: held() == 1)
            announced = threading.Thread(target=production.announce, args=("champion", day))
            announced.start()
            production.wait("the event of the champion", lambda: held() == 2)
        announced.join()
        production.wait("two label runs", lambda: len(production.runs(day)) >= len(ingests) + 2)
        seen = self._end(day)
        return {"label_runs": len(production.runs(day)) - len(ingests)} | seen

    # Before

    @contextmanager
    def _shard_at_work(self, day: Partition) -> Iterator[tuple[Run, Server, Release]]:
        """Start a label run, hold what its first shard writes, and yield the scheduler below which it is at work."""
        production, store = self._production, self._production.world.ground.store
        production.settle()
        writes = rf"/lake/labels/.*{day}.*\.parquet|/lake/_staging/.*{day}.*/shard-\d+\.json"
        rule = store.rule("delay", "PUT|POST", writes, times=None, seconds=_HELD_SECONDS)
        try:
            run = production.trigger("label", day)
            production.wait("a shard at work", lambda: store.seen(rule) > 0)
            yield run, production.holder(), store.reset
        finally:
            store.reset()

    # Meanwhile

    def _outage(self, number: signal.Signals, seconds: float, meanwhile: Release = lambda: None) -> Seen:
        """Take the database away for a while, and wait until Airflow has it again."""
        production, end = self._production, time.monotonic() + seconds
        before = production.restarted.copy()
        production.end_database(number)
        meanwhile()
        while time.monotonic() < end:
            production.supervise()
            time.sleep(0.5)
        production.postgres.start()
        back = time.monotonic()
        production.settle()
        return {"seconds_until_healthy": since(back), "restarted": dict(production.restarted - before)}

    def _taken_over(self, run: Run, killed: float) -> Seen:
        """Wait until the shard that was at work is at its next try."""

        def again() -> bool:
            return any(task.tries > 1 and task.state == "running" for task in self._production.tasks(run))

        self._production.wait("the next try", again)
        return {"seconds_until_the_next_try": since(killed)}

    def _steps(self) -> set[int]:
        return {process.pid for process in self._production.steps()}

    # After

    def _end(self, day: Partition, *, supervised: bool = True, again: int = 0) -> Seen:
        """Judge the day when its runs have ended; `again` shards may have been labelled twice."""
        runs = self._production.ended(day, supervised=supervised)
        seen = self._judge.day(day, runs)
        files = seen["files"]
        self._judge.must(SHARDS <= files <= SHARDS + again, day, f"{SHARDS} shards were written as {files} files")
        return seen


def _kill(processes: list[psutil.Process]) -> float:
    for process in processes:
        process.kill()
    return time.monotonic()


def _at_work(holder: Server) -> list[psutil.Process]:
    """Return the workers of a scheduler that have a task. The title of each says which."""
    titles = {process: " ".join(process.cmdline()) for process in holder.processes()}
    return [process for process, title in titles.items() if "LocalExecutor: " in title and "<idle>" not in title]
