"""A step as a local process: it runs once, whatever becomes of the worker that started it."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout

from llambert_etl.errors import ConfigError, DataError
from llambert_etl.orchestration.local import STORE_KEY, LocalStep
from llambert_etl.orchestration.process import StepProcess
from llambert_etl.orchestration.retry import StepCrashedError
from tests.dags.stores import Store, stored, wait_for

ENVIRONMENT = dict(os.environ)


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
