"""The embedded stack: real servers that start, refuse strangers, and leave nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import boto3
import httpx
import psutil
import pytest
from botocore.exceptions import ClientError

from laptop import Stack
from laptop.mlflow import MlflowServer
from laptop.process import processes_under
from laptop.seaweed import SeaweedFS
from llambert_etl.errors import ConfigError, TransientError
from llambert_etl.lake import Lake
from llambert_etl.settings import Settings, load_settings


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Stack]:
    """A stack of this test alone, to be stopped and killed."""
    stack = Stack(tmp_path / "own")
    yield stack
    stack.stop()


def test_a_fresh_lake_is_on_s3_and_empty(lake: Lake) -> None:
    assert lake.version("documents") == 0


def test_a_read_only_identity_reads_and_cannot_write(s3: SeaweedFS, bucket: str) -> None:
    s3.client().put_object(Bucket=bucket, Key="a", Body=b"text")
    reader = boto3.client(
        "s3",
        endpoint_url=s3.endpoint,
        region_name="us-east-1",
        aws_access_key_id=s3.reader_access_key,
        aws_secret_access_key=s3.reader_secret_key,
    )
    assert reader.get_object(Bucket=bucket, Key="a")["Body"].read() == b"text"
    for write in (
        lambda: reader.put_object(Bucket=bucket, Key="b", Body=b""),
        lambda: reader.delete_object(Bucket=bucket, Key="a"),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            write()


def test_an_anonymous_request_to_s3_is_refused(s3: SeaweedFS, bucket: str) -> None:
    assert httpx.get(f"{s3.endpoint}/{bucket}", trust_env=False).status_code == 403


def test_an_unknown_bucket_is_an_error_and_is_not_created(s3: SeaweedFS) -> None:
    with pytest.raises(ClientError, match="NoSuchBucket"):
        s3.client().put_object(Bucket="misspelt-bucket", Key="a", Body=b"")


def test_unfinished_uploads_are_removed_by_a_rule_of_the_bucket(s3: SeaweedFS, bucket: str) -> None:
    (rule,) = s3.client().get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}


def test_an_anonymous_request_to_mlflow_is_refused(mlflow_server: MlflowServer) -> None:
    url = f"{mlflow_server.uri}/api/2.0/mlflow/experiments/search"
    assert httpx.post(url, json={"max_results": 1}, trust_env=False).status_code == 401


def test_an_mlflow_artifact_lands_in_s3_though_the_client_holds_no_key(
    mlflow_server: MlflowServer, s3: SeaweedFS, tmp_path: Path
) -> None:
    code = (
        "import mlflow\n"
        "mlflow.set_experiment('stack')\n"
        "with mlflow.start_run() as run:\n"
        "    mlflow.log_text('evidence', 'note.txt')\n"
        "assert mlflow.artifacts.load_text(f'runs:/{run.info.run_id}/note.txt') == 'evidence'\n"
        "print(run.info.experiment_id, run.info.run_id)\n"
    )
    login = {"MLFLOW_TRACKING_USERNAME": mlflow_server.username, "MLFLOW_TRACKING_PASSWORD": mlflow_server.password}
    env = {**os.environ, **login, "MLFLOW_TRACKING_URI": mlflow_server.uri}
    program = [sys.executable, "-c", code]
    client = subprocess.run(program, env=env, cwd=tmp_path, check=True, timeout=120, stdout=subprocess.PIPE, text=True)
    experiment, run = client.stdout.splitlines()[-1].split()
    note = s3.client().get_object(Bucket="mlflow", Key=f"artifacts/{experiment}/{run}/artifacts/note.txt")
    assert note["Body"].read() == b"evidence"


def test_every_server_listens_on_loopback_only(s3: SeaweedFS, mlflow_server: MlflowServer) -> None:
    listening = {
        connection.laddr.ip
        for server in (s3, mlflow_server)
        for process in server.processes()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


def test_credentials_are_kept_for_the_owner_only(stack: Stack, s3: SeaweedFS) -> None:
    secret = s3.secret_key
    written = [*stack.state.rglob("*.json"), stack.shell_file]
    holders = [path for path in written if secret in path.read_text()]
    assert stack.shell_file in holders
    assert {path.stat().st_mode & 0o077 for path in holders} == {0}


def test_the_environment_of_a_stack_gives_its_settings(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stack.environment.items():
        monkeypatch.setenv(name, value)
    assert load_settings() == stack.settings


def test_a_shell_reads_the_variables_and_finds_the_command(stack: Stack) -> None:
    code = "import json, os, shutil; print(json.dumps({**os.environ, 'found': shutil.which('llambert')}))"
    script = f'. "{stack.shell_file}" && exec python -c "{code}"'
    shell = subprocess.run(["sh", "-c", script], env={"PATH": os.defpath}, capture_output=True, check=True, timeout=60)
    seen = json.loads(shell.stdout)
    assert seen["found"] == str(Path(sys.executable).parent / "llambert")
    assert stack.environment.items() <= seen.items()
    assert (seen["AIRFLOW_URL"], seen["AIRFLOW_PASSWORD"]) == (stack.airflow.url, stack.airflow.password)


def test_a_stopped_server_leaves_no_process_and_keeps_its_objects(own: Stack) -> None:
    own.s3.start()
    own.s3.client().put_object(Bucket="landing", Key="kept", Body=b"text")
    own.s3.stop()
    own.s3.stop()
    assert processes_under(own.state) == []

    own.s3.start()
    assert own.s3.client().get_object(Bucket="landing", Key="kept")["Body"].read() == b"text"


def test_two_stacks_on_one_state_are_refused(own: Stack) -> None:
    own.s3.start()
    with pytest.raises(ConfigError, match="make down"):
        Stack(own.state)


def test_a_server_that_fails_to_start_stops_the_others(own: Stack) -> None:
    own.airflow.folder.write_text("a file where Airflow's folder should be")
    with pytest.raises(FileExistsError):
        own.start()
    assert processes_under(own.state) == []


def test_a_server_that_is_killed_ends_the_watch_and_names_itself(own: Stack) -> None:
    own.s3.start()
    assert own.s3.pid
    os.kill(own.s3.pid, signal.SIGKILL)
    own.s3._process.wait()
    with pytest.raises(TransientError, match="s3 has ended"):
        own.watch()


def test_a_settings_object_reaches_the_lake_of_the_stack(settings: Settings, bucket: str) -> None:
    assert settings.lake == f"s3://{bucket}/lake"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_start_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    up = subprocess.Popen([sys.executable, "-m", "laptop", "up", "--state", str(tmp_path)])
    try:
        wait_until(lambda: (tmp_path / "s3/s3.log").exists())
        up.send_signal(number)
        assert up.wait(timeout=60) == 128 + number
        assert processes_under(tmp_path) == []
    finally:
        up.kill()


def test_down_stops_what_a_killed_supervisor_left(tmp_path: Path) -> None:
    up = subprocess.Popen([sys.executable, "-m", "laptop", "up", "--state", str(tmp_path)])
    try:
        wait_until(lambda: bool(processes_under(tmp_path)))
        up.kill()
        up.wait()
        assert processes_under(tmp_path)
    finally:
        subprocess.run([sys.executable, "-m", "laptop", "down", "--state", str(tmp_path)], check=True)
    assert processes_under(tmp_path) == []


def wait_until(condition: Callable[[], bool], deadline: float = 60.0) -> None:
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)
