"""Runs a step as a process on the worker: the default, so that a laptop needs no cluster."""

import json
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator, Context
from pydantic import JsonValue

from llambert_etl.errors import ConfigError, TransientError
from llambert_etl.facts import Linked
from llambert_etl.orchestration.commands import EXECUTABLE, partition_of, rendered
from llambert_etl.orchestration.handover import patience
from llambert_etl.orchestration.links import LINKS
from llambert_etl.orchestration.process import StepProcess
from llambert_etl.orchestration.retry import error_for

STORE_KEY = "llambert_process"

_POLL_SECONDS = 0.2
_GRACE_SECONDS = 20.0


class LocalStep(BaseOperator):
    """Run `llambert *arguments` once, whatever becomes of the worker, and return its manifest.

    Where the process lies is kept in the task state store before it starts. A retry that finds it there goes on with
    it, or takes its result; it starts the step again only where the process failed, was killed or ran on another host.
    """

    template_fields: Sequence[str] = ("arguments",)
    operator_extra_links = LINKS
    ui_color = "#e8f1fa"

    def __init__(
        self,
        *,
        arguments: list[str],
        state: str,
        task_name: str = "",
        report: str = "",
        mlflow_uri: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.arguments = arguments
        self.state = state
        self.task_name = task_name
        self.report = report
        self.mlflow_uri = mlflow_uri
        self.partition = ""
        self.made = Linked()
        self._process: StepProcess | None = None
        self._store: Any = None  # while the step is followed: at other times Airflow must not be asked
        self._left = False

    def execute(self, context: Context) -> dict[str, JsonValue]:
        argv = rendered(self.arguments)
        self.partition = partition_of(argv)
        store = context["task_state_store"]
        process = self._process = self._attached(store.get(STORE_KEY))
        if process is None:
            process = self._process = self._new()
            store.set(STORE_KEY, {"host": socket.gethostname(), "folder": str(process.folder)})
            self.log.info("Starting: %s %s", EXECUTABLE, " ".join(argv))
            process.start([_executable(), *argv], _environment())
        self._store = store
        try:
            self._follow(process)
        finally:
            self._store = None
        exit_code, manifest, reason = process.exit_code, process.last_line("out"), process.last_line("err")
        # A cleared task must run again, so nothing of this run may be found.
        store.delete(STORE_KEY)
        process.remove()
        if exit_code != 0:
            raise error_for(137 if exit_code is None else exit_code, reason or "no output")
        told: dict[str, JsonValue] = json.loads(manifest)
        self.made = Linked.of(told)
        return told

    def on_kill(self) -> None:
        """End the step, unless the next try is to go on with it."""
        seconds = 0 if self._store is None else patience(self._store, STORE_KEY)
        if self._process and seconds:
            self._process.leave(seconds)
            self._left = True
        elif self._process:
            self._process.stop(_GRACE_SECONDS)

    def _new(self) -> StepProcess:
        root = Path(self.state) / "steps"
        root.mkdir(parents=True, exist_ok=True)
        return StepProcess(Path(tempfile.mkdtemp(dir=root, prefix=f"{self.task_id}-")))

    def _attached(self, stored: JsonValue) -> StepProcess | None:
        if not isinstance(stored, dict) or stored.get("host") != socket.gethostname():
            return None
        process = StepProcess(Path(str(stored.get("folder"))))
        if process.running or process.exit_code == 0:
            process.take()
            self.log.info("Going on with the process that an earlier try started: %s", process.folder)
            return process
        process.remove()
        return None

    def _follow(self, process: StepProcess) -> None:
        while not self._left:
            running = process.running  # asked before reading, so that the last lines are read after the end
            lines = list(process.new_lines())
            for line in lines:
                self.log.info("%s", line)
            if not lines and not running:
                return
            if not lines:
                time.sleep(_POLL_SECONDS)
        raise TransientError(f"Airflow has given this try up; the step runs on for the next one: {process.folder}")


def _executable() -> str:
    """Find the command on PATH, or beside this interpreter: Airflow may run from an environment nobody activated."""
    beside = Path(sys.executable).parent
    found = shutil.which(EXECUTABLE) or shutil.which(EXECUTABLE, path=str(beside))
    if found is None:
        raise ConfigError(f"no command {EXECUTABLE!r} on this worker's PATH or in {beside}: install llambert-etl there")
    return found


def _environment() -> dict[str, str]:
    """Return the worker's environment without Airflow's part: a step has no use for Airflow's keys and database."""
    own = {name: value for name, value in os.environ.items() if "AIRFLOW" not in name}
    # A thread that has nothing to compute sleeps: others use the processor too, and threads that spin keep them off it.
    return {"OMP_WAIT_POLICY": "PASSIVE", **own}
