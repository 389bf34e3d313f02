"""A step as a local process: it runs once, whatever becomes of the worker that started it."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, AirflowTaskTimeout
from airflow.sdk.execution_time.comms import ErrorResponse

from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.orchestration.local import STORE_KEY, LocalStep
from llambert_etl.orchestration.process import StepProcess
from llambert_etl.orchestration.retry import StepCrashedError

ENVIRONMENT = dict(os.environ)


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


class Store(dict[str, Any]):
    """Airflow's task state store: the only thing that a retry has from the try before."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value

    def delete(self, key: str) -> None:
        self.pop(key, None)


@pytest.fixture
def step(tmp_path: Path) -> Callable[..., LocalStep]:
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


def stored(folder: Path, host: str | None = None) -> Store:
    return Store({STORE_KEY: {"host": host or os.uname().nodename, "folder": str(folder)}})


def test_retry_goes_on_with_the_step_that_its_killed_worker_left_running(
    killed_worker: Path, slow_cli: Path, step: Callable[..., LocalStep]
) -> None:
    assert StepProcess(killed_worker).running
    (slow_cli / "go").touch()
    store = stored(killed_worker)
    manifest = step().execute({"task_state_store": store})
    assert manifest["step"] == "ingest"
    assert (slow_cli / "starts").read_text() == "started\n"
    assert not store
    assert not killed_worker.exists()


def test_retry_takes_the_result_of_a_step_that_ended_while_no_worker_watched(
    killed_worker: Path, slow_cli: Path, step: Callable[..., LocalStep]
) -> None:
    (slow_cli / "go").touch()
    wait_for(lambda: not StepProcess(killed_worker).running)
    assert step().execute({"task_state_store": stored(killed_worker)})["step"] == "ingest"
    assert (slow_cli / "starts").read_text() == "started\n"


def test_retry_starts_a_step_again_that_was_killed_with_its_worker(
    killed_worker: Path, slow_cli: Path, step: Callable[..., LocalStep]
) -> None:
    os.killpg(int((killed_worker / "pid").read_text()), signal.SIGKILL)
    wait_for(lambda: not StepProcess(killed_worker).running)
    (slow_cli / "go").touch()
    assert step().execute({"task_state_store": stored(killed_worker)})["step"] == "ingest"
    assert (slow_cli / "starts").read_text() == "started\nstarted\n"


def test_step_of_another_host_is_not_mistaken_for_one_of_this_host(
    killed_worker: Path, slow_cli: Path, step: Callable[..., LocalStep]
) -> None:
    (slow_cli / "go").touch()
    step().execute({"task_state_store": stored(killed_worker, host="another")})
    assert (slow_cli / "starts").read_text() == "started\nstarted\n"
    wait_for(lambda: not StepProcess(killed_worker).running)


def test_cleared_task_runs_again(cli: Any, step: Callable[..., LocalStep]) -> None:
    store = Store()
    step().execute({"task_state_store": store})
    step().execute({"task_state_store": store})
    assert cli.steps == ["ingest", "ingest"]


def test_last_line_of_the_story_is_the_reason_of_a_failure(cli: Any, step: Callable[..., LocalStep]) -> None:
    cli.reply(ingest={"exit": 65, "reason": "drop 3 holds no readable row"})
    store = Store()
    with pytest.raises(DataError, match="drop 3 holds no readable row"):
        step().execute({"task_state_store": store})
    assert not store


def test_step_killed_by_the_system_is_a_crash(tmp_path: Path, step: Callable[..., LocalStep], cli: Any) -> None:
    (cli.folder / "llambert").write_text("#!/bin/sh\nkill -9 $$\n")
    with pytest.raises(StepCrashedError, match="exit code 137"):
        step().execute({"task_state_store": Store()})


def test_stopped_task_stops_the_whole_group(slow_cli: Path, step: Callable[..., LocalStep]) -> None:
    operator = step()
    store = Store()

    def time_out(*_: object) -> None:
        raise AirflowTaskTimeout

    signal.signal(signal.SIGALRM, time_out)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    with pytest.raises(AirflowTaskTimeout):
        operator.execute({"task_state_store": store})
    process = StepProcess(Path(store[STORE_KEY]["folder"]))
    assert process.running
    operator.on_kill()
    assert not process.running


class GivenUp(Store):
    """What a try finds whose scheduler has died: to Airflow the task has another id by now."""

    def get(self, key: str, default: Any = None) -> Any:
        return default


class Silent(Store):
    """The store of an Airflow whose database is away."""

    def get(self, key: str, default: Any = None) -> Any:
        raise AirflowRuntimeError(ErrorResponse())


@pytest.fixture
def told_to_end(slow_cli: Path) -> Iterator[Callable[[LocalStep, Store], None]]:
    """Execute a step, and tell it to end as Airflow does, by a signal while it is followed."""

    def execute(operator: LocalStep, store: Store) -> None:
        asked: list[str] = []  # nothing at first, as of a task that was never tried
        store_get, store.get = store.get, lambda key, default=None: asked.append(key)  # type: ignore[method-assign]

        def tell(*_: object) -> None:
            store.get = store_get  # type: ignore[method-assign]
            operator.on_kill()

        def wait() -> None:
            wait_for((slow_cli / "starts").exists)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

        signal.signal(signal.SIGUSR1, tell)
        waiter = threading.Thread(target=wait)
        waiter.start()
        try:
            operator.execute({"task_state_store": store})
        finally:
            waiter.join()

    before = signal.getsignal(signal.SIGUSR1)
    yield execute
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("store", [GivenUp(), Silent()], ids=["given up", "no answer"])
def test_a_try_that_airflow_has_given_up_leaves_its_step_to_the_next_try(
    store: Store, told_to_end: Callable[[LocalStep, Store], None], slow_cli: Path, step: Callable[..., LocalStep]
) -> None:
    with pytest.raises(TransientError, match="runs on for the next one"):
        told_to_end(step(), store)
    (slow_cli / "go").touch()
    kept = Store(store)
    assert step().execute({"task_state_store": kept})["step"] == "ingest"
    assert (slow_cli / "starts").read_text() == "started\n"
    assert not kept


def left(killed_worker: Path, patience: int) -> psutil.Process:
    """Leave a step that its worker has started, and return what watches over it."""
    process = StepProcess(killed_worker)
    process.take()
    before = set(psutil.Process().children())
    process.leave(patience, grace=1)
    (watch,) = set(psutil.Process().children()) - before
    return watch


@pytest.mark.parametrize("deaf", [False, True], ids=["ends when asked", "is deaf"])
def test_a_step_that_was_left_and_that_nobody_takes_is_ended(killed_worker: Path, slow_cli: Path, deaf: bool) -> None:
    if deaf:
        os.killpg(int((killed_worker / "pid").read_text()), signal.SIGKILL)
        wait_for(lambda: not StepProcess(killed_worker).running)
        StepProcess(killed_worker).start(["/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"], ENVIRONMENT)
    left(killed_worker, patience=1)
    wait_for(lambda: not StepProcess(killed_worker).running)


def test_a_step_that_was_left_is_not_ended_when_the_next_try_has_taken_it(
    killed_worker: Path, slow_cli: Path, step: Callable[..., LocalStep]
) -> None:
    watch, done = left(killed_worker, patience=5), []
    again = threading.Thread(target=lambda: done.append(step().execute({"task_state_store": stored(killed_worker)})))
    again.start()
    wait_for(lambda: watch.status() == psutil.STATUS_ZOMBIE)
    assert StepProcess(killed_worker).running
    (slow_cli / "go").touch()
    again.join()
    assert done[0]["step"] == "ingest"
    assert (slow_cli / "starts").read_text() == "started\n"


def test_a_try_that_a_person_ends_takes_its_step_along(
    told_to_end: Callable[[LocalStep, Store], None], step: Callable[..., LocalStep]
) -> None:
    with pytest.raises(StepCrashedError):
        told_to_end(step(), Store())


def test_group_that_ignores_the_request_to_end_is_killed(tmp_path: Path) -> None:
    process = StepProcess(tmp_path)
    process.start(["/bin/sh", "-c", f"trap '' TERM; touch {tmp_path}/up; while true; do sleep 0.1; done"], ENVIRONMENT)
    wait_for((tmp_path / "up").exists)
    process.stop(grace=0.5)
    assert not process.running


def test_output_of_a_step_reaches_the_log_line_by_line(tmp_path: Path) -> None:
    process = StepProcess(tmp_path)
    process.start(["/bin/sh", "-c", r"printf 'one\n\ntwo\nhal' >&2; echo three; exit 7"], ENVIRONMENT)
    wait_for(lambda: not process.running)
    assert list(process.new_lines()) == ["one", "two"]
    assert list(process.new_lines()) == []
    assert (process.last_line("err"), process.last_line("out"), process.exit_code) == ("hal", "three", 7)


def environment_of(step: LocalStep, folder: Path) -> str:
    """Return what the command of a step sees."""
    (folder / "llambert").write_text(f"#!/bin/sh\nenv > {folder}/env\necho '{{}}'\n")
    step.execute({"task_state_store": Store()})
    return (folder / "env").read_text()


def test_step_sees_nothing_of_airflows_own_settings(
    cli: Any, step: Callable[..., LocalStep], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")
    monkeypatch.setenv("LLAMBERT_S3_REGION", "eu-central-1")
    seen = environment_of(step(), cli.folder)
    assert "AIRFLOW" not in seen
    assert "LLAMBERT_S3_REGION=eu-central-1" in seen


@pytest.mark.parametrize(("set_", "seen"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_of_a_step_wait_asleep_unless_the_worker_says_otherwise(
    set_: str | None, seen: str, cli: Any, step: Callable[..., LocalStep], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if set_:
        monkeypatch.setenv("OMP_WAIT_POLICY", set_)
    assert f"OMP_WAIT_POLICY={seen}" in environment_of(step(), cli.folder).splitlines()


def test_missing_command_is_a_configuration_error(
    step: Callable[..., LocalStep], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    store = Store()
    with pytest.raises(ConfigError, match="no command 'llambert'"):
        step().execute({"task_state_store": store})
