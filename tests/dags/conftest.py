"""An Airflow of its own for these tests: an empty home, a database, one labelling task and a fake `llambert`."""

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.cluster import FakeCluster, done, running
from tests.processes.forks import Fork, preload

if TYPE_CHECKING:
    from llambert_etl.orchestration.local import LocalStep
    from tests.dags.pods import Task

ROOT = Path(__file__).parents[2]

# Airflow reads these once, when it is first imported.
HOME = Path(tempfile.mkdtemp(prefix="llambert-airflow-"))
os.environ |= {
    "AIRFLOW_HOME": str(HOME),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
    "AIRFLOW__API_AUTH__JWT_SECRET": "only-for-these-tests-" + "0" * 64,
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(HOME / "passwords.json"),
}

preload("tests.dags.ahead")

TASK = """\
name: {name}
description: Does the reviewer recommend the film?
owner: nlp-platform
source: {{uri: "s3://landing/films/{{partition}}/*.jsonl", id: id, text: text}}
labels: {{positive: It is recommended., negative: It is not.}}
prompt: {{template: films.j2}}
annotator: {{model: meta-llama/Llama-2-7b-chat-hf, revision: {commit}, sample: 100, {annotator}}}
encoder: {{model: FacebookAI/roberta-large, revision: {commit}}}
{more}
"""

FAKE_LLAMBERT = """\
#!{python}
import json, pathlib, sys
here = pathlib.Path(__file__).parent
argv = sys.argv[1:]
with (here / "calls").open("a") as calls:
    print(json.dumps(argv), file=calls)
name = " ".join(argv[: argv.index("--task")]) if "--task" in argv else argv[0]
name = "gold import" if name.startswith("gold import") else name
told = {{"ingest": {{"late_partitions": []}}, "train": {{"model_version": 4}}, "promote": {{"decision": "kept"}}}}
reply = json.loads((here / "replies.json").read_text()).get(name, {{}})
if reply.get("only", argv[-1]) not in argv:
    reply = {{}}
print("the story of", name, file=sys.stderr)
print(reply.get("reason", "finished"), file=sys.stderr)
print("not the manifest")
print(json.dumps({{"step": name, "facts": told.get(name, {{}}) | reply.get("facts", {{}})}}))
sys.exit(reply.get("exit", 0))
"""


def write_task(include: Path, name: str, more: str = "", annotator: str = "") -> Path:
    path = include / "tasks" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TASK.format(name=name, commit="a" * 40, more=more, annotator=annotator))
    return path


@pytest.fixture(scope="session", autouse=True)
def database() -> None:
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture(autouse=True)
def include(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set a deployment of this test alone, and return its include folder with the task `films`."""
    deployment = {
        "LAKE": tmp_path / "lake",
        "STATE": tmp_path / "state",
        "INCLUDE": tmp_path / "include",
        "MLFLOW_URI": "http://127.0.0.1:5000",
    }
    for name, value in deployment.items():
        monkeypatch.setenv(f"LLAMBERT_{name}", str(value))
    write_task(tmp_path / "include", "films", "gold: gold/films.parquet")
    return tmp_path / "include"


class FakeCli:
    """A `llambert` on PATH that answers as told and remembers how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def reply(self, **replies: dict[str, Any]) -> None:
        named = {name.replace("_", " "): reply for name, reply in replies.items()}
        (self.folder / "replies.json").write_text(json.dumps(named))

    @property
    def calls(self) -> list[list[str]]:
        calls = self.folder / "calls"
        return [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []

    @property
    def steps(self) -> list[str]:
        return [" ".join(call[: call.index("--task")]) if "--task" in call else call[0] for call in self.calls]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCli:
    folder = tmp_path / "bin"
    folder.mkdir()
    executable = folder / "llambert"
    executable.write_text(FAKE_LLAMBERT.format(python=sys.executable))
    executable.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    fake = FakeCli(folder)
    fake.reply()
    return fake


class Run:
    """A finished Dag run: the state of each task instance, what it pushed, which assets it announced, what it said."""

    def __init__(self, ended: dict[str, Any], said: str) -> None:
        self.state: str = ended["state"]
        self.states: dict[str, str] = ended["states"]
        self.announced = {(asset, partition) for asset, partition in ended["announced"]}
        self.said = said
        self._pushed = {(task, key): value for task, key, value in ended["pushed"]}

    def xcom(self, task_id: str, key: str = "return_value") -> Any:
        return self._pushed[task_id, key]


@pytest.fixture
def run_dag(tmp_path: Path) -> Callable[..., Run]:
    """Run a Dag of this test's deployment by its kind."""
    from tests.dags.runs import run_to_its_end

    count = itertools.count(1)

    def run(kind: str, partition: str | None, **options: Any) -> Run:
        log = tmp_path / f"run-{next(count)}.log"
        with Fork(run_to_its_end, kind, partition, options, log=log, environment=os.environ) as fork:
            ended = fork.wait()
            said = log.read_text() + log.with_suffix(".out").read_text()
            assert ended == 0, said
            return Run(fork.manifest, said)

    return run


@pytest.fixture
def api(tmp_path: Path, include: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    """A cluster of this test's own, to which the deployment's steps go."""
    import tenacity
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    from tests.dags.pods import MANIFEST, TOKEN

    with FakeCluster() as cluster:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": cluster.address}}],
            "users": [{"name": "u", "user": {"token": TOKEN}}],
        }
        connection = {"conn_type": "kubernetes", "extra": {"kube_config": json.dumps(config)}}
        monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps(connection))
        monkeypatch.setenv("LLAMBERT_COMPUTE", "kubernetes")
        monkeypatch.setenv("LLAMBERT_KUBERNETES__IMAGE", "registry.example/llambert@sha256:" + "0" * 64)
        # The provider's own pauses before it asks for a log again.
        monkeypatch.setattr(KubernetesPodOperator._write_logs.retry, "wait", tenacity.wait_none())
        cluster.life = [running(), done(message=json.dumps(MANIFEST))]
        yield cluster


@pytest.fixture
def task(api: FakeCluster) -> "Task":
    from tests.dags.pods import Task

    return Task()


@pytest.fixture
def killer() -> Iterator[Callable[[], None]]:
    """Kills the try in the main thread, from the thread of a server."""

    from tests.dags.pods import Killed

    def die(*_: object) -> None:
        raise Killed

    before = signal.signal(signal.SIGUSR1, die)
    yield lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


@pytest.fixture
def step(tmp_path: Path) -> "Callable[..., LocalStep]":
    from llambert_etl.orchestration.local import LocalStep

    def make(*arguments: str, **options: Any) -> LocalStep:
        argv = list(arguments) or ["ingest", "--task", "films", "--partition", "2026-11-10"]
        return LocalStep(task_id="ingest", arguments=argv, state=str(tmp_path / "state"), task_name="films", **options)

    return make


@pytest.fixture
def slow_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `llambert` that notes its start, waits for the file `go` and prints a manifest."""
    folder = tmp_path / "bin"
    folder.mkdir()
    executable = folder / "llambert"
    executable.write_text(
        "#!/bin/sh\n"
        f'echo started >> "{folder}/starts"; echo "reading documents" >&2\n'
        f'while [ ! -e "{folder}/go" ]; do sleep 0.05; done\n'
        """echo '{"step": "ingest", "facts": {"late_partitions": []}}'\n"""
    )
    executable.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


WORKER = """
import sys
from pathlib import Path
from llambert_etl.orchestration.process import StepProcess
process = StepProcess(Path(sys.argv[1]))
process.start(["llambert", "ingest"], __import__("os").environ)
print("started", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def killed_worker(slow_cli: Path, tmp_path: Path) -> Path:
    """The folder of a step whose worker got `kill -9` while the step ran."""
    from tests.dags.stores import wait_for

    folder = tmp_path / "state" / "steps" / "killed"
    folder.mkdir(parents=True)
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert worker.stdout
    worker.stdout.readline()
    wait_for((slow_cli / "starts").exists)
    worker.kill()
    worker.wait()
    return folder
