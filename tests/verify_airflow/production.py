"""Airflow as a deployment has it: PostgreSQL, two schedulers, and somebody who starts again what has ended."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import quote

import psutil

from laptop.airflow import Airflow
from laptop.airflow_client import Run, TaskInstance
from laptop.credentials import credentials_of
from laptop.ports import free_ports
from laptop.process import Server, end_processes, members
from laptop.stack import REPOSITORY
from llambert_etl.partition import Partition
from tests.processes.postgres import Postgres
from tests.verify_faults.world import Ground, World

T = TypeVar("T")

# What docs/production.md recommends; all else is as Airflow has it.
SETTINGS = {"AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "30"}
KINDS = ("ingest", "label")

_GATE = 71070  # the number of an advisory lock
_HELD_EVENTS = f"""CREATE FUNCTION held() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_advisory_xact_lock_shared({_GATE}); RETURN NEW; END $$"""
_HOLD_EVENTS = """CREATE TRIGGER held BEFORE INSERT ON asset_partition_dag_run
    FOR EACH ROW WHEN (NEW.partition_key = '{day}') EXECUTE FUNCTION held()"""
_WAITING_EVENTS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
_LIVING = """SELECT count(*) FROM job WHERE job_type = 'SchedulerJob' AND state = 'running'
    AND latest_heartbeat > now() - interval '15 seconds'"""
_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'airflow' AND pid <> pg_backend_pid()"


class Attempt(NamedTuple):
    """One try of a task, of those that Airflow keeps."""

    task: str
    map_index: int
    number: int
    state: str | None


class Production:
    """The servers, and what a scenario asks of them. `restarted` counts what was started again, by name."""

    def __init__(self, ground: Ground, postgres: Postgres, say: Callable[[str], None]) -> None:
        self.world, self.postgres, self.say = World(ground, "production"), postgres, say
        self.database = postgres.create_database("airflow")
        for name in ("dags", "plugins"):
            (self.world.root / name).symlink_to(REPOSITORY / name)
        state = self.world.root / "stack"
        self.airflow = Airflow(
            state,
            {"airflow": free_ports(1)[0]},
            credentials_of(state),
            root=self.world.root,
            environment={**self.world.environment, **SETTINGS},
            database=self.database.uri.replace("postgresql://", "postgresql+psycopg2://"),
            schedulers=2,
        )
        self.client = self.airflow.client()
        self.restarted: Counter[str] = Counter()
        self.connections = 0
        self._sessions: set[int] = set()

    def start(self) -> None:
        self.airflow.start()
        dags = {f"{self.world.task.name}__{kind}" for kind in KINDS}
        self.wait("the Dags", lambda: dags <= self.client.dags())
        for dag in dags:
            self.client.unpause(dag)
        self.settle()

    def stop(self) -> list[str]:
        """Stop all, and return the commands of processes that did not belong to any server any more."""
        self.airflow.stop()
        left = [" ".join(_words(process))[:100] for process in self.processes()]
        end_processes(self.processes, grace=5)
        return left

    # Processes

    @property
    def schedulers(self) -> list[Server]:
        return [server for server in self.airflow.servers if "scheduler" in server.name]

    def processes(self) -> list[psutil.Process]:
        """Return what is alive of all servers that were ever started here, and of their steps."""
        self._sessions |= {server.pid for server in self.airflow.servers if server.pid}
        markers = {server.marker for server in self.airflow.servers}
        return members(lambda mark: mark in markers, self._sessions)

    def steps(self) -> list[psutil.Process]:
        return steps_among(self.processes())

    def shows(self, secret: str) -> bool:
        """Say whether the arguments of any process hold a secret."""
        return any(secret in word for process in self.processes() for word in _words(process))

    def holder(self) -> Server:
        """Return the scheduler among whose processes a step is."""
        holders = [server for server in self.schedulers if steps_among(server.processes())]
        assert len(holders) == 1, f"a step is at work below {[server.name for server in holders]}"
        return holders[0]

    def supervise(self) -> None:
        """Start again what has ended, when the rest of its process group is killed; a step has a group of its own."""
        self.processes()  # whose sessions are to be known when others have followed
        for server in self.airflow.servers:
            if not server.running:
                left = [process for process in server.processes() if _session(process) == server.pid]
                self.say(f"  {server.name} has ended: started again, {len(left)} of its processes were left")
                self.restarted[server.name] += 1
                for process in left:
                    process.kill()
                server.launch()

    def settle(self) -> None:
        """Wait until everything runs that should, and says of itself that it does."""

        def settled() -> bool:
            self.supervise()
            return self.living_schedulers() == 2 and self.client.healthy()

        self.wait("a healthy Airflow with two schedulers", settled)

    def living_schedulers(self) -> int:
        return int(self.database.rows(_LIVING)[0][0])

    def end_database(self, number: signal.Signals) -> None:
        """End PostgreSQL: fast by SIGINT, or by SIGKILL of its first process, whose others then end by themselves."""
        assert self.postgres.pid
        psutil.Process(self.postgres.pid).send_signal(number)
        self.client.wait_for("the end of PostgreSQL", lambda: not self.postgres.running)
        self.client.wait_for("the end of its processes", lambda: not self.postgres.processes())

    # What Airflow is told and asked

    def trigger(self, kind: str, day: Partition) -> Run:
        return self.client.trigger(f"{self.world.task.name}__{kind}", day)

    def announce(self, asset: str, day: Partition) -> None:
        """Make an event of one of the task's assets, as a step does that has it for an outlet."""
        name = f"{self.world.task.name}__{asset}"
        found = self.client.request("GET", "assets", params={"name_pattern": name})["assets"]
        self.client.request("POST", "assets/events", json={"asset_id": found[0]["id"], "partition_key": day})

    @contextmanager
    def events_held(self, day: Partition) -> Iterator[Callable[[], int]]:
        """Hold, inside the database, each event that would start a run of a day; yield how many are held."""
        self.database.run(_HELD_EVENTS, _HOLD_EVENTS.format(day=day))
        with self.database.holding(f"SELECT pg_advisory_lock({_GATE})"):
            yield lambda: int(self.database.rows(_WAITING_EVENTS)[0][0])

    def runs(self, day: Partition) -> list[Run]:
        return [run for kind in KINDS for run in self.client.runs(f"{self.world.task.name}__{kind}", day)]

    def tasks(self, run: Run) -> list[TaskInstance]:
        return self.client.task_instances(run.dag, quote(run.run_id, safe=""))

    def attempts(self, run: Run) -> list[Attempt]:
        """Return every try of every task of a run, those that were given up too."""
        path = f"dags/{run.dag}/dagRuns/{quote(run.run_id, safe='')}/taskInstances"
        return [
            Attempt(task.task, task.map_index, found["try_number"], found["state"])
            for task in self.tasks(run)
            for found in self.client.request("GET", f"{path}/{_place(task)}/tries")["task_instances"]
        ]

    def wait(self, what: str, ask: Callable[[], T | None], deadline: float = 300.0) -> T:
        return self.client.wait_for(what, ask, deadline=deadline)

    def ended(self, day: Partition, *, supervised: bool) -> list[Run]:
        """Return all runs of a day when they have ended. `supervised`: what ends meanwhile is started again."""

        def ask() -> list[Run] | None:
            if supervised:
                self.supervise()
            self.connections = max(self.connections, int(self.database.rows(_CONNECTIONS)[0][0]))
            runs = self.runs(day)
            return runs if runs and all(run.state in ("success", "failed") for run in runs) else None

        return self.wait(f"the end of all runs of {day}", ask, deadline=420.0)


def steps_among(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that are a step of ours, without the shell around each."""
    return [process for process in processes if any(Path(word).name == "llambert" for word in _words(process)[:2])]


def _session(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return None


def _words(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:  # it has ended
        return []


def since(moment: float) -> float:
    return round(time.monotonic() - moment, 1)


def _place(task: TaskInstance) -> str:
    return task.task if task.map_index < 0 else f"{task.task}/{task.map_index}"
