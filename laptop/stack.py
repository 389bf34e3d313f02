"""The three servers on one state folder, started in order and stopped together."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Self

import psutil

from laptop import airflow, mlflow, seaweed
from laptop.credentials import credentials_of, write_private
from laptop.environment import ARTIFACTS, LANDING, WAREHOUSE, settings_on, shell_lines, variables
from laptop.ports import remembered_ports
from laptop.process import Server, processes_under, stop_all, undisturbed
from llambert_etl.errors import ConfigError
from llambert_etl.settings import Settings

REPOSITORY = Path(__file__).parents[1]
REMEMBERED_PORTS = "ports.json"

_POLL_SECONDS = 1.0
_SUPERVISOR = "supervisor.json"


class Stack:
    """Servers that do not run yet. `with Stack(state) as stack:` starts them and stops them whatever happens.

    `more` are variables for Airflow and the steps, beside those of the stack's own settings. A shell that reads
    `shell_file` has them all, and where Airflow is and how to log in.
    """

    def __init__(self, state: Path, root: Path = REPOSITORY, more: Mapping[str, str] = MappingProxyType({})) -> None:
        self.state, self.root = state.resolve(), root.resolve()
        self.state.mkdir(parents=True, exist_ok=True)
        self._refuse_second()
        credentials = credentials_of(self.state)
        ports = remembered_ports(self.state / REMEMBERED_PORTS, (*seaweed.PORTS, *mlflow.PORTS, *airflow.PORTS))
        self.s3 = seaweed.SeaweedFS(self.state, ports, credentials, (LANDING, WAREHOUSE, ARTIFACTS))
        self.mlflow = mlflow.MlflowServer(self.state, ports, credentials, self.s3, ARTIFACTS)
        self.settings: Settings = settings_on(self.s3, self.mlflow, state=self.state, root=self.root)
        self.environment = variables(self.settings)
        everything = {**self.environment, **more}
        self.airflow = airflow.Airflow(self.state, ports, credentials, root=self.root, environment=everything)
        login = {
            "AIRFLOW_URL": self.airflow.url,
            "AIRFLOW_USER": self.airflow.username,
            "AIRFLOW_PASSWORD": self.airflow.password,
        }
        self.shell_file = self.state / "env"
        write_private(self.shell_file, shell_lines({**everything, **login}))

    @property
    def servers(self) -> list[Server]:
        return [self.s3, self.mlflow, *self.airflow.servers]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all servers; when one fails, stop those that run."""
        record = [os.getpid(), psutil.Process().create_time()]
        (self.state / _SUPERVISOR).write_text(json.dumps(record))
        try:
            self.s3.start()
            # These two boot side by side: each spends most of its time on importing.
            self.mlflow.launch()
            self.airflow.launch()
            self.mlflow.wait_ready()
            self.airflow.wait_ready()
        except BaseException:
            self.stop()
            raise

    def watch(self) -> None:
        """Return never: raise TransientError when a server has ended by itself."""
        while True:
            for server in self.servers:
                if not server.running:
                    raise server.failure("has ended")
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Stop all servers, those that others need last. Stopping twice does nothing."""
        with undisturbed():
            self.airflow.stop()
            stop_all([self.mlflow, self.s3])
            (self.state / _SUPERVISOR).unlink(missing_ok=True)

    def _refuse_second(self) -> None:
        if processes_under(self.state):
            raise ConfigError(f"servers already run on {self.state}: stop them with `make down`")


def supervisor_of(state: Path) -> psutil.Process | None:
    """Return the living process that has started the whole stack of this folder, if there is one."""
    try:
        pid, started = json.loads((state / _SUPERVISOR).read_text())
        process = psutil.Process(pid)
        return process if process.create_time() == started else None
    except (OSError, ValueError, psutil.Error):
        return None
