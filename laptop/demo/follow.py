"""Follows Airflow's runs through its REST API: what each step did, as it happens, and what went wrong."""

import re
import time
from collections.abc import Callable, Collection
from typing import Any, NamedTuple
from urllib.parse import quote

from laptop.airflow_client import AirflowClient, Run
from llambert_etl.manifest import Manifest

# Each look costs the API server a tenth of a second of the two cores on which everything runs.
_POLL_SECONDS = 2.0
_PROGRESS_SECONDS = 10.0
_FAILED = ("failed", "upstream_failed")
_TOLD = ("running", "success", "skipped", "up_for_retry", *_FAILED)
_LAST_LINES = 15
_PROGRESS = re.compile(r" info (step |[\w ]+: )\d+ of \d+, ")

Json = dict[str, Any]
Key = tuple[str, str, str, int]
KINDS = ("ingest", "retrain", "label")
ACTIVE = ("queued", "running")


class StepRecord(NamedTuple):
    """One finished task instance. `seconds` is Airflow's count, start-up included; the manifest has the step's own."""

    dag: str
    run: str
    partition: str
    step: str
    state: str
    seconds: float
    manifest: Manifest | None


class StepFailedError(Exception):
    """A step failed; the message holds the last lines of its log."""


class Follower:
    """Remembers what it has told, so that each change of a step is told once.

    A failed retrain or a failure of one of `days` ends the demo. Unpaused, Airflow also runs yesterday, which is empty.
    """

    def __init__(self, airflow: AirflowClient, task: str, days: Collection[str], say: Callable[[str], None]) -> None:
        self._airflow, self._task, self._days, self._say = airflow, task, days, say
        self._told: dict[Key, str] = {}
        self._progress_at = time.monotonic()
        self._progress_told: dict[Key, str] = {}
        self.steps: list[StepRecord] = []
        self.runs: list[Run] = []

    def wait(self, until: Callable[[], bool], what: str, seconds: float) -> None:
        """Tell every change until `until` holds. Raise StepFailedError or, after `seconds`, TimeoutError."""
        deadline = time.monotonic() + seconds
        while True:
            self._poll()
            if until():
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not reached within {seconds:.0f} s; unfinished: {self._unfinished()}")
            time.sleep(_POLL_SECONDS)

    def manifests(self, dag: str, step: str, partition: str) -> list[tuple[str, Manifest]]:
        """Return (run, manifest) of each time that a step succeeded on a partition."""
        return [
            (record.run, record.manifest)
            for record in self.steps
            if (record.dag, record.step, record.partition) == (self.dag(dag), step, partition)
            if record.manifest is not None
        ]

    def dag(self, kind: str) -> str:
        return f"{self._task}__{kind}"

    def _poll(self) -> None:
        runs = [run for kind in KINDS for run in self._airflow.runs(self.dag(kind))]
        partitions = {(run.dag, run.run_id): run.partition or "" for run in runs}
        for instance in self._airflow.listed("dags/~/dagRuns/~/taskInstances", "task_instances", order_by="start_date"):
            key = (instance["dag_id"], instance["dag_run_id"])
            if key in partitions:
                self._tell(instance, partitions[key])
        if time.monotonic() - self._progress_at > _PROGRESS_SECONDS:
            self._progress_at = time.monotonic()
            self._tell_progress()
        # Runs are kept last: whoever sees a run as finished must also find its steps.
        self.runs = runs

    def _tell(self, instance: Json, partition: str) -> None:
        key = (instance["dag_id"], instance["dag_run_id"], instance["task_id"], instance["map_index"])
        state = instance["state"]
        if state not in _TOLD or self._told.get(key) == state:
            return
        self._told[key] = state
        if state == "upstream_failed" or (state == "skipped" and not instance["duration"]):
            return  # nothing ran: what stood before it has been told
        kind = instance["dag_id"].rpartition("__")[2]
        head = f"{partition}  {kind:<8}{instance['task_id']:<18}"
        if state == "running":
            self._say(f"{head}started")
            return
        seconds = float(instance["duration"] or 0.0)
        manifest = self._manifest(key) if state == "success" else None
        if state in ("success", "skipped"):
            self.steps.append(StepRecord(key[0], key[1], partition, key[2], state, seconds, manifest))
        if state == "failed" and (partition in self._days or kind == "retrain"):
            raise StepFailedError(f"{kind} {partition}: {key[2]} failed\n{self._last_lines(key, instance)}")
        summed = _summed(manifest) if state != "failed" else self._reason(key, instance)
        self._say(f"{head}{'done' if state == 'success' else state:<8}{seconds:6.1f} s  {summed}".rstrip())

    def _manifest(self, key: Key) -> Manifest | None:
        path = f"{_instance_path(key)}/xcomEntries"
        entries = self._airflow.listed(path, "xcom_entries", map_index=key[3])
        if not any(entry["key"] == "return_value" for entry in entries):
            return None
        value = self._get(f"{path}/return_value", map_index=key[3], deserialize="true")["value"]
        if not isinstance(value, dict) or "step" not in value:
            return None
        return Manifest.model_validate(value)

    def _tell_progress(self) -> None:
        for key, state in self._told.items():
            if state != "running":
                continue
            found = [line for line in self._log(key, 1) if _PROGRESS.search(line)]
            if found and self._progress_told.get(key) != found[-1]:
                self._progress_told[key] = found[-1]
                self._say(f"{'':10}  {'':8}{found[-1].split(' info ')[-1]}")

    def _reason(self, key: Key, instance: Json) -> str:
        said = [line for line in self._log(key, instance["try_number"]) if line.startswith("llambert: ")]
        return said[-1].partition(": ")[2].partition("; ")[0] if said else "see its log in Airflow"

    def _last_lines(self, key: Key, instance: Json) -> str:
        lines = self._log(key, instance["try_number"])
        return "\n".join(f"    {line}" for line in lines[-_LAST_LINES:])

    def _log(self, key: Key, number: int) -> list[str]:
        dag, run, step, index = key
        return self._airflow.log(dag, quote(run, safe=""), step, number=number, map_index=index).splitlines()

    def _get(self, path: str, **parameters: str | int) -> Any:
        return self._airflow.request("GET", path, params=parameters)

    def _unfinished(self) -> str:
        states = [f"{run.dag} {run.partition} {run.state}" for run in self.runs if run.state in ACTIVE]
        return ", ".join(states) or "no run: did Airflow lose an event?"


def _instance_path(key: Key) -> str:
    dag, run, step, _ = (quote(str(part), safe="") for part in key)
    return f"dags/{dag}/dagRuns/{run}/taskInstances/{step}"


def _summed(manifest: Manifest | None) -> str:
    if manifest is None:
        return ""
    parts = [f"{count:,} {name}" for name, count in manifest.rows.items() if count]
    for fact in ("decision", "reason", "skip", "model_version"):
        if manifest.facts.get(fact) is not None:
            parts.append(f"{fact.replace('_', ' ')}: {manifest.facts[fact]}")
    return ", ".join(parts)
