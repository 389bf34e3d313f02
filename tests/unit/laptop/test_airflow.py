"""What an Airflow is told that has a database of its own, before anything is started."""

import sys
import time
from pathlib import Path

import pytest

from laptop.airflow import Airflow
from laptop.credentials import Credentials

PASSWORD = "secret-of-the-database"
DATABASE = f"postgresql+psycopg2://airflow:{PASSWORD}@127.0.0.1:5432/airflow"
ADDRESS = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"


def airflow(folder: Path, **options: object) -> Airflow:
    given = {"root": folder, "environment": {"LLAMBERT_LAKE": "lake"}}
    return Airflow(folder, {"airflow": 12345}, Credentials(), **given, **options)  # type: ignore[arg-type]


def test_airflow_has_the_database_that_it_is_given_and_else_a_file_of_its_own(tmp_path: Path) -> None:
    assert airflow(tmp_path, database=DATABASE).env[ADDRESS] == DATABASE
    assert airflow(tmp_path).env[ADDRESS] == f"sqlite:///{tmp_path}/airflow/airflow.db"


@pytest.mark.parametrize(("count", "names"), [(1, ["scheduler"]), (2, ["scheduler", "scheduler-2"])])
def test_each_scheduler_is_a_server_with_a_log_of_its_own(tmp_path: Path, count: int, names: list[str]) -> None:
    servers = airflow(tmp_path, database=DATABASE, schedulers=count).servers
    assert [server.name for server in servers if "scheduler" in server.name] == [f"airflow-{name}" for name in names]
    assert len({server.log for server in servers}) == len({server.marker for server in servers}) == 3 + count


def test_the_password_of_the_database_is_in_no_argument_and_in_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs, state = tmp_path / "bin", tmp_path / "state"
    programs.mkdir()
    program = programs / "airflow"  # notes how it was started, and runs on as a server does
    program.write_text(f'#!/bin/sh\necho "$@" >> {programs}/started\n[ "$1" = db ] || exec sleep 600\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    served = airflow(state, database=DATABASE, schedulers=2)
    try:
        served.launch()
        deadline = time.monotonic() + 20
        while len(started := (programs / "started").read_text().splitlines()) < 6:
            assert time.monotonic() < deadline, started
            time.sleep(0.02)
        commands = [" ".join(process.cmdline()) for server in served.servers for process in server.processes()]
    finally:
        served.stop()
    assert started.count("scheduler --skip-serve-logs") == 2
    assert len(commands) == 5
    assert not any(PASSWORD in command for command in [*started, *commands])
    assert not any(PASSWORD in path.read_text() for path in state.rglob("*") if path.is_file())
