"""A real Airflow whose only Dags are those of `dags/pods.py`, and what a scenario does to it and to the cluster."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from laptop.airflow import PORTS, Airflow
from laptop.airflow_client import AirflowClient, Run
from laptop.credentials import credentials_of
from laptop.ports import remembered_ports
from tests.processes.postgres import Postgres
from tests.verify_kubernetes.cluster import Cluster, until

KINDS: dict[str, dict[str, Any]] = {
    "deferred": {},
    "held": {"deferrable": False},
    "gpu": {"gpus": 1},
    "small": {"memory": "64Mi"},
    "absent": {"image": "registry.invalid/absent:1"},
    "crowded": {"gpus": 999, "schedule_seconds": 15},
    "secretless": {"secret": "no-such-secret", "startup_seconds": 15},
    "brief": {"deadline_seconds": 10},
    "full": {"scratch": "5Mi"},
    "timed": {"execution_seconds": 60},
    "timed_held": {"execution_seconds": 20, "deferrable": False},
}
STEP = "step"


class World:
    """Both, while they run."""

    def __init__(self, cluster: Cluster, airflow: Airflow, client: AirflowClient, api_restart: str) -> None:
        self.cluster, self.airflow, self.client, self.api_restart = cluster, airflow, client, api_restart

    def step(self, run: Run) -> dict[str, Any]:
        path = f"dags/{run.dag}/dagRuns/{quote(run.run_id, safe='')}/taskInstances/{STEP}"
        found: dict[str, Any] = self.client.request("GET", path)
        return found

    def log(self, run: Run, number: int = 1) -> str:
        return self.client.log(run.dag, quote(run.run_id, safe=""), STEP, number=number)

    def wait_state(self, run: Run, *states: str, deadline: float = 300.0) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            step = self.step(run)
            return step if step["state"] in states else None

        return until(f"{run.dag} {run.run_id} to be {states}", reached, deadline)

    def signal_task(self, run: Run, number: signal.Signals) -> None:
        """Send a signal to the process in which Airflow runs the step's operator."""
        pid = self.wait_state(run, "running")["pid"]
        os.kill(pid, number)

    def mark_failed(self, run: Run) -> None:
        path = f"dags/{run.dag}/dagRuns/{quote(run.run_id, safe='')}/taskInstances/{STEP}"
        self.client.request("PATCH", path, json={"new_state": "failed"})

    def clear(self, run: Run) -> None:
        body = {"dry_run": False, "dag_run_id": run.run_id, "task_ids": [STEP], "only_failed": False}
        self.client.request("POST", f"dags/{run.dag}/clearTaskInstances", json=body)

    def kill_triggerer(self) -> None:
        server = next(server for server in self.airflow.servers if server.name.endswith("triggerer"))
        assert server.pid
        os.killpg(server.pid, signal.SIGKILL)
        until("the triggerer's end", lambda: not server.running)
        server.start()

    def manifest(self, run: Run) -> Any:
        path = f"dags/{run.dag}/dagRuns/{quote(run.run_id, safe='')}/taskInstances/{STEP}/xcomEntries/return_value"
        return self.client.request("GET", path, allowed={404}).get("value")


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Yield the address of a database of its own."""
    server = Postgres(folder)
    server.start()
    try:
        yield server.create_database("airflow").uri.replace("postgresql:", "postgresql+psycopg2:")
    finally:
        server.stop()


@contextmanager
def world(folder: Path, image: str, api_restart: str) -> Iterator[World]:
    """Start Airflow on a namespace of its own in the cluster."""
    root = folder / "root"
    (root / "plugins").mkdir(parents=True)
    shutil.copytree(Path(__file__).parent / "dags", root / "dags")
    for path in (folder, folder / "postgres"):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)  # PostgreSQL may run as another user
    with Cluster(image) as cluster, postgres(folder / "postgres") as database:
        pod = {"image": image, "namespace": cluster.namespace, "gpus": 0, "cpu": "20m", "memory": "128Mi"}
        environment = {
            "VERIFY_KINDS": json.dumps(KINDS),
            "VERIFY_POD": json.dumps({**pod, "scratch": "1Gi"}),
            # On a busy machine the import of the cluster's client alone can take longer than the default.
            "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "300",
        }
        ports = remembered_ports(folder / "ports.json", PORTS)
        airflow = Airflow(folder, ports, credentials_of(folder), root=root, environment=environment, database=database)
        airflow.start()
        try:
            with airflow.client() as client:
                client.wait_for("the Dags", lambda: set(KINDS) <= client.dags(), deadline=120)
                for dag in KINDS:
                    client.unpause(dag)
                yield World(cluster, airflow, client, api_restart)
        finally:
            airflow.stop()
