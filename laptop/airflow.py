"""Airflow on loopback: LocalExecutor, one login; its processes, each watched by itself. SQLite unless told otherwise.

Not `airflow standalone`: its scheduler and triggerer serve their logs on all interfaces, and a component that dies
there is not noticed. Here they do not serve logs at all: the API server reads them from the same disk.
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from laptop.airflow_client import AirflowClient
from laptop.credentials import Credentials, write_private
from laptop.host import executable, server_environment
from laptop.ports import LOOPBACK
from laptop.process import Server, stop_all, tail
from llambert_etl.errors import TransientError

PORTS = ("airflow",)

_COMMANDS = {
    "api-server": ["api-server"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
# What the Dags of llambert_etl.orchestration ask for: one GPU step, and one step that moves the champion, at a time.
_POOLS = {"gpu": 1, "registry": 1}
_MIGRATION_SECONDS = 180
_BOOT_SECONDS = 180.0
# The triggerer never ends by itself when it is asked to.
_GRACE_SECONDS = 5.0


class Airflow:
    """`environment` is what steps need: the LLAMBERT_* variables. `env` is what an `airflow` command needs.

    `database` is the address of a PostgreSQL database, with its password; only there may `schedulers` be more than one.
    `own` are variables of single components: `{"triggerer": {...}}`.
    """

    def __init__(
        self,
        state: Path,
        ports: Mapping[str, int],
        credentials: Credentials,
        *,
        root: Path,
        environment: Mapping[str, str],
        database: str = "",
        schedulers: int = 1,
        own: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    ) -> None:
        self.folder = state / "airflow"
        self.url = f"http://{LOOPBACK}:{ports['airflow']}"
        self.username, self.password = credentials.airflow_user, credentials.airflow_password
        self._passwords = self.folder / "passwords.json"
        configuration = _configuration(self.folder, self.url, ports["airflow"], credentials, root, database)
        self.env = {**server_environment(), **environment, **configuration}
        self.servers = [
            Server(
                f"airflow-{name}",
                [executable("airflow"), *_COMMANDS[component]],
                env={**self.env, **own.get(component, {})},
                folder=self.folder,
                ready=self._healthy,
                deadline=_BOOT_SECONDS,
                grace=_GRACE_SECONDS,
            )
            for component in _COMMANDS
            for name in _names(component, schedulers)
        ]

    def client(self) -> AirflowClient:
        return AirflowClient(self.url, self.username, self.password)

    def start(self) -> None:
        """Start and wait until every component has its heartbeat; after a failure nothing is left running."""
        try:
            self.launch()
            self.wait_ready()
        except BaseException:
            self.stop()
            raise

    def launch(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_private(self._passwords, json.dumps({self.username: self.password}))
        self._migrate()
        for server in self.servers:
            server.launch()

    def wait_ready(self) -> None:
        for server in self.servers:
            server.wait_ready()
        with self.client() as client:
            for name, slots in _POOLS.items():
                client.set_pool(name, slots)

    def stop(self) -> None:
        stop_all(self.servers)

    def _healthy(self) -> bool:
        return all(server.running for server in self.servers) and self.client().healthy()

    def _migrate(self) -> None:
        # The stamp is written after the tables, so that an interrupted migration is taken up again.
        stamp, log = self.folder / "migrated", self.folder / "airflow-migrate.log"
        if stamp.exists():
            return
        with log.open("ab") as out:
            done = subprocess.run(  # noqa: S603 - our own argv, no shell
                [executable("airflow"), "db", "migrate"],
                env=self.env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=_MIGRATION_SECONDS,
                check=False,
            )
        if done.returncode:
            raise TransientError(
                f"airflow db migrate failed (exit code {done.returncode}); the end of {log}:\n{tail(log)}"
            )
        stamp.touch()


def _names(component: str, schedulers: int) -> list[str]:
    more = range(2, schedulers + 1) if component == "scheduler" else ()
    return [component, *(f"{component}-{number}" for number in more)]


def _configuration(
    home: Path, url: str, port: int, credentials: Credentials, root: Path, database: str
) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(root / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(root / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        # Each running task is a process with Airflow in it: four keep a laptop's memory near 1 GB.
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{credentials.airflow_user}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__CORE__FERNET_KEY": credentials.fernet_key,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database or f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__API__HOST": LOOPBACK,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": credentials.airflow_secret_key,
        "AIRFLOW__API_AUTH__JWT_SECRET": credentials.airflow_jwt_secret,
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
        # On two busy cores the API server may take longer than the default of 5 s to answer a task.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "30",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }
