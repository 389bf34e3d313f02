"""docker/compose.yaml, every command as it is written, in containers of the images that it names."""

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from laptop.host import executable
from laptop.stack import REPOSITORY
from tests.verify_images.conftest import PREFIX, TAG, Image

# After all that they wait for, with the parts of the file's own order.
ORDER = (("postgres", "s3"), ("mlflow", "airflow"), ("dag-processor", "triggerer", "worker"))
ONCE = ("lake", "database")


class Machine:
    """The services of the file, started one after another: not every tool knows how to wait for their health."""

    def __init__(self, tool: str, folder: Path) -> None:
        self._tool, self.project = tool, f"llambert-{uuid.uuid4().hex[:8]}"
        shutil.copytree(REPOSITORY / "docker", folder, ignore=shutil.ignore_patterns("secrets", "settings.env"))
        (folder / "models").mkdir(exist_ok=True)
        subprocess.run([folder / "compose" / "secrets.sh"], check=True)
        # Nothing here needs a port of this machine, which may be taken.
        ports = "".join(f"  {name}: {{ports: !reset []}}\n" for name in ("s3", "mlflow", "airflow"))
        (folder / "ports.yaml").write_text(f"services:\n{ports}")
        program = ["docker", "compose"] if tool == "docker" else [executable("podman-compose")]
        files = [f"--file={folder / name}" for name in ("compose.yaml", "ports.yaml")]
        self._compose = [*program, "--project-name", self.project, *files]
        self._env = {**os.environ, "LLAMBERT_IMAGES": PREFIX, "LLAMBERT_TAG": TAG}

    def start(self) -> None:
        self.compose("up", "-d", "--no-deps", *ORDER[0])
        self.wait(*ORDER[0])
        for name in ONCE:
            self.compose("run", "--no-deps", "--rm", "-T", name)
        for names in ORDER[1:]:
            self.compose("up", "-d", "--no-deps", *names)
            self.wait(*names)

    def compose(self, *argv: str) -> str:
        done = subprocess.run([*self._compose, *argv], capture_output=True, text=True, env=self._env, timeout=600)
        assert done.returncode == 0, f"{argv}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done.stdout

    def exec(self, service: str, *argv: str) -> str:
        return self.compose("exec", "-T", service, *argv)

    def wait(self, *services: str, seconds: float = 600) -> None:
        deadline = time.monotonic() + seconds
        for service in services:
            while not self._healthy(service):
                assert time.monotonic() < deadline, f"{service} is not healthy"
                time.sleep(2)

    def down(self) -> None:
        subprocess.run([*self._compose, "down", "--volumes"], capture_output=True, env=self._env, timeout=300)

    def _healthy(self, service: str) -> bool:
        container = ("-" if self._tool == "docker" else "_").join((self.project, service, "1"))
        if self._tool == "docker":
            state = ["docker", "inspect", "--format={{.State.Health.Status}}", container]
            return subprocess.run(state, capture_output=True, text=True).stdout.strip() == "healthy"
        return not subprocess.run(["podman", "healthcheck", "run", container], capture_output=True).returncode


@pytest.fixture(scope="module")
def machine(
    tool: str, airflow: Image, airflow_worker: Image, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    machine = Machine(tool, tmp_path_factory.mktemp("machine") / "docker")
    try:
        machine.start()
        yield machine
    finally:
        machine.down()


@pytest.mark.timeout(2400)
def test_all_services_become_healthy_and_the_doctor_agrees(machine: Machine) -> None:
    told = machine.exec("worker", "llambert", "doctor")
    assert "lake" in told


@pytest.mark.timeout(900)
def test_a_step_runs_as_a_process_of_the_worker(machine: Machine) -> None:
    machine.exec("worker", "airflow", "dags", "unpause", "maintain")
    machine.exec("worker", "airflow", "dags", "trigger", "maintain", "--run-id", "by-hand")
    deadline = time.monotonic() + 600
    state = ""
    while "success" not in state:
        assert time.monotonic() < deadline, state
        assert "failed" not in state
        time.sleep(2)
        state = machine.exec("worker", "airflow", "tasks", "states-for-dag-run", "maintain", "by-hand")
