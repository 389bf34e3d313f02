"""A client of Airflow's REST API, for the demo and the tests: what a user can do in the UI, and nothing else."""

import time
import uuid
from collections.abc import Callable, Collection, Iterator
from typing import Any, Literal, NamedTuple, Self, TypeVar

import httpx

from llambert_etl.errors import ConfigError, TransientError
from llambert_etl.partition import Partition

T = TypeVar("T")

_TRIES = 6
_POLL_SECONDS = 0.5
_PAGE = 100
# SQLite answers some calls with 500 while the scheduler writes.
_RETRIED = frozenset({500, 502, 503, 504})
_FINISHED = frozenset({"success", "failed"})
_BACKFILL_SECONDS = 120.0


class Run(NamedTuple):
    """A Dag run. `kind` is Airflow's run type: scheduled, backfill, manual or asset-triggered."""

    dag: str
    run_id: str
    state: str
    kind: str
    partition: str | None


class TaskInstance(NamedTuple):
    """One try of one task. `map_index` is -1 where the task is not mapped."""

    task: str
    map_index: int
    state: str | None
    tries: int
    seconds: float | None


class AirflowClient:
    """Logs in when it first needs to; tries again where trying again helps."""

    def __init__(self, url: str, username: str, password: str) -> None:
        self._login = {"username": username, "password": password}
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def healthy(self) -> bool:
        """Say whether the database and every component are healthy at this moment."""
        try:
            reply = self._http.get("/api/v2/monitor/health", timeout=5)
        except httpx.TransportError:
            return False
        return reply.is_success and all(part["status"] == "healthy" for part in reply.json().values())

    def request(self, method: str, path: str, *, allowed: Collection[int] = (), **options: Any) -> Any:
        """Return the JSON that /api/v2 answers. A status of 400 or more that is not `allowed` raises ConfigError."""
        reply = self._send(method, f"/api/v2/{path}", **options)
        if reply.is_error and reply.status_code not in allowed:
            raise ConfigError(f"airflow: {method} {path}: {reply.status_code} {reply.text[:500]}")
        return reply.json() if reply.content else None

    def listed(self, path: str, name: str, **parameters: str | int) -> Iterator[Any]:
        """Yield all that a list of the API holds: a page has 100 entries at most, whatever limit is asked for."""
        offset, total = 0, 1
        while offset < total:
            page = self.request("GET", path, params={**parameters, "limit": _PAGE, "offset": offset})
            total = page["total_entries"]
            offset += max(len(page[name]), 1)
            yield from page[name]

    def dags(self) -> set[str]:
        return {dag["dag_id"] for dag in self.listed("dags", "dags")}

    def import_errors(self) -> dict[str, str]:
        return {error["filename"]: error["stack_trace"] for error in self.listed("importErrors", "import_errors")}

    def unpause(self, dag: str) -> None:
        self.request("PATCH", f"dags/{dag}", json={"is_paused": False})

    def pause(self, dag: str) -> None:
        self.request("PATCH", f"dags/{dag}", json={"is_paused": True})

    def trigger(self, dag: str, partition: Partition | None, conf: dict[str, Any] | None = None) -> Run:
        """Start a run. Its id is ours, so that a call whose reply was lost can be repeated without a second run."""
        run_id = f"manual__{partition}__{uuid.uuid4().hex[:8]}"
        body = {"dag_run_id": run_id, "logical_date": None, "partition_key": partition, "conf": conf or {}}
        self.request("POST", f"dags/{dag}/dagRuns", json=body, allowed={409})
        return self.run(dag, run_id)

    def run(self, dag: str, run_id: str) -> Run:
        return _run(self.request("GET", f"dags/{dag}/dagRuns/{run_id}"))

    def runs(self, dag: str, partition: Partition | None = None) -> list[Run]:
        """Return the runs of a Dag, oldest first, of one partition where it is given."""
        found = map(_run, self.listed(f"dags/{dag}/dagRuns", "dag_runs", order_by="run_after"))
        return [run for run in found if partition is None or run.partition == partition]

    def task_instances(self, dag: str, run_id: str) -> list[TaskInstance]:
        return [
            TaskInstance(found["task_id"], found["map_index"], found["state"], found["try_number"], found["duration"])
            for found in self.listed(f"dags/{dag}/dagRuns/{run_id}/taskInstances", "task_instances")
        ]

    def log(self, dag: str, run_id: str, task: str, *, number: int = 1, map_index: int = -1) -> str:
        """Return the log of one try as text."""
        path = f"dags/{dag}/dagRuns/{run_id}/taskInstances/{task}/logs/{number}"
        content = self.request("GET", path, params={"map_index": map_index, "full_content": "true"})["content"]
        return "\n".join(_line(entry) for entry in content)

    def backfill(
        self, dag: str, first: str, last: str, *, reprocess: Literal["none", "failed", "completed"] = "none"
    ) -> int:
        """Ask for the runs of a range of days and return the backfill's id; wait while an earlier one is closing."""
        body = {
            "dag_id": dag,
            "from_date": f"{first}T00:00:00Z",
            "to_date": f"{last}T00:00:00Z",
            "reprocess_behavior": reprocess,
        }

        def ask() -> int | None:
            # Airflow allows one backfill a Dag (409), and closes one some seconds after its last run has ended.
            return (self.request("POST", "backfills", json=body, allowed={409}) or {}).get("id")

        return int(self.wait_for(f"a place for a backfill of {dag}", ask, deadline=_BACKFILL_SECONDS))

    def pools(self) -> dict[str, int]:
        return {pool["name"]: pool["slots"] for pool in self.listed("pools", "pools")}

    def set_pool(self, name: str, slots: int) -> None:
        """Create the pool, or leave it as it is: an operator may have changed it."""
        body = {"name": name, "slots": slots, "description": "", "include_deferred": True}
        self.request("POST", "pools", json=body, allowed={409})

    def wait(self, run: Run, *, deadline: float = 300.0) -> Run:
        """Return the run when it has ended."""
        return self.wait_for(
            f"the end of {run.dag} {run.run_id}",
            lambda: found if (found := self.run(run.dag, run.run_id)).state in _FINISHED else None,
            deadline=deadline,
        )

    def wait_for(self, what: str, ask: Callable[[], T | None], *, deadline: float = 60.0) -> T:
        """Ask until there is an answer; raise TransientError naming `what` after `deadline` seconds."""
        end = time.monotonic() + deadline
        while not (answer := ask()):
            if time.monotonic() > end:
                raise TransientError(f"airflow: waited {deadline:.0f} s for {what}")
            time.sleep(_POLL_SECONDS)
        return answer

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        for left in reversed(range(_TRIES)):
            try:
                reply = self._http.request(method, path, **options)
            except httpx.TransportError as error:
                if not left:
                    raise TransientError(f"airflow: {self._http.base_url} does not answer: {error}") from error
            else:
                if reply.status_code == httpx.codes.UNAUTHORIZED and left:
                    self._log_in()
                    continue
                if reply.status_code not in _RETRIED or not left:
                    return reply
            time.sleep(_POLL_SECONDS)
        raise AssertionError("the last try returns or raises")

    def _log_in(self) -> None:
        reply = self._http.post("/auth/token", json=self._login)
        if reply.is_error:
            raise ConfigError(f"airflow: the login was refused with {reply.status_code}: check user and password")
        self._http.headers["Authorization"] = f"Bearer {reply.json()['access_token']}"


def _run(found: dict[str, Any]) -> Run:
    return Run(found["dag_id"], found["dag_run_id"], found["state"], found["run_type"], found.get("partition_key"))


def _line(entry: Any) -> str:
    """Return the event and what was raised: Airflow keeps the exception beside the event, not in it."""
    if not isinstance(entry, dict):
        return str(entry)
    raised = [f"{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or ()]
    return " ".join([str(entry.get("event", entry)), *raised])
