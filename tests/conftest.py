"""Real servers for tests, each started when a test first asks for it, once a session; a fresh bucket for each test."""

import faulthandler
import json
import os
import signal
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from xdist.scheduler import LoadScopeScheduling

from laptop import Stack
from laptop.airflow import Airflow
from laptop.host import FOREIGN, QUIET
from laptop.mlflow import MlflowServer
from laptop.seaweed import SeaweedFS
from laptop.stack import REPOSITORY
from llambert_etl.lake import Lake
from llambert_etl.partition import today
from llambert_etl.settings import Settings
from tests.fakes.hub import FakeHub
from tests.fakes.llm import FakeLlm
from tests.fakes.proxy import Proxy, fault_proxy
from tests.fakes.webhook import Webhook
from tests.processes.postgres import Database, Postgres

# Before anything reads them: no telemetry, no model hub, nothing of the developer's own deployments, and no GPU, which
# would hold what tests want to see on disk, and round otherwise.
for name in [name for name in os.environ if name.startswith(FOREIGN)]:
    del os.environ[name]
os.environ |= QUIET | {"CUDA_VISIBLE_DEVICES": ""}
if today() < "2026-11-15":  # of which tests have days; who runs them with a clock before that has not mistyped one
    os.environ["LLAMBERT_ALLOW_FUTURE"] = "true"

faulthandler.enable()


def pytest_configure(config: pytest.Config) -> None:
    """Say where the tests stood when they are ended from outside, as a CI does with a run that takes too long."""
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        faulthandler.register(signal.SIGTERM, file=os.dup(sys.__stderr__.fileno()), chain=True)


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This repository's Dags, plugins and models beside an include folder of the tests' own: no shipped task runs."""
    root = tmp_path_factory.mktemp("root")
    for name in ("dags", "plugins", ".models"):
        (root / name).symlink_to(REPOSITORY / name)
    for name in ("tasks", "prompts", "gold"):
        (root / "include" / name).mkdir(parents=True)
    return root


@pytest.fixture(scope="session")
def channel() -> Iterator[Webhook]:
    """The channel `nlp` of the session's Airflow."""
    with Webhook() as hook:
        yield hook


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, root: Path, channel: Webhook) -> Iterator[Stack]:
    """The stack of this session. Nothing runs until `s3`, `mlflow_server` or `airflow` starts its part."""
    # Few of everything are more than a page, as in a deployment that is years old.
    environment = {"LLAMBERT_ALERTS": json.dumps({"nlp": channel.secret}), "AIRFLOW__API__MAXIMUM_PAGE_LIMIT": "3"}
    stack = Stack(tmp_path_factory.mktemp("stack"), root, environment)
    yield stack
    stack.stop()


class ByServers(LoadScopeScheduling):
    """Keeps in one process the tests of a file, and all of Airflow's: they share what took long to start."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "airflow" if "test_airflow" in file else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServers:
    return ByServers(config, log)


@pytest.fixture(scope="session")
def s3(stack: Stack) -> SeaweedFS:
    stack.s3.start()
    return stack.s3


@pytest.fixture(scope="session")
def mlflow_server(stack: Stack, s3: SeaweedFS) -> MlflowServer:
    stack.mlflow.start()
    return stack.mlflow


@pytest.fixture(scope="session")
def airflow(stack: Stack, mlflow_server: MlflowServer) -> Airflow:
    """Airflow on this repository's Dags. Its steps use the stack's own buckets, not a test's."""
    stack.airflow.start()
    return stack.airflow


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def database(postgres: Postgres) -> Database:
    """A database that no other test uses."""
    return postgres.create_database(f"test_{uuid.uuid4().hex[:16]}")


@pytest.fixture
def bucket(s3: SeaweedFS) -> str:
    """The name of a bucket that no other test uses."""
    name = f"test-{uuid.uuid4().hex[:16]}"
    s3.create_bucket(name)
    return name


@pytest.fixture
def settings(s3: SeaweedFS, bucket: str, tmp_path: Path) -> Settings:
    """Settings on S3 with a lake and a landing zone in a fresh bucket, and no MLflow."""
    include = tmp_path / "include"
    include.mkdir()
    return Settings(
        lake=f"s3://{bucket}/lake",
        include=include,
        state=tmp_path / "state",
        sources=[f"s3://{bucket}/landing/"],
        s3_endpoint=s3.endpoint,
        s3_access_key_id=SecretStr(s3.access_key),
        s3_secret_access_key=SecretStr(s3.secret_key),
    )


@pytest.fixture
def llm() -> Iterator[FakeLlm]:
    """An LLM behind a server that has no faults yet."""
    with FakeLlm() as llm:
        yield llm


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that may be asked, as none may in other tests."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with FakeHub() as hub:
        yield hub


@pytest.fixture
def registry_settings(settings: Settings, mlflow_server: MlflowServer) -> Settings:
    """`settings` with the session's MLflow."""
    return settings.model_copy(
        update={
            "mlflow_uri": mlflow_server.uri,
            "mlflow_username": SecretStr(mlflow_server.username),
            "mlflow_password": SecretStr(mlflow_server.password),
        }
    )


@pytest.fixture
def lake(settings: Settings) -> Lake:
    """A lake on S3 with empty tables."""
    lake = Lake.from_settings(settings)
    lake.create_tables()
    return lake


@pytest.fixture(scope="module")
def proxies(s3: SeaweedFS) -> Iterator[Proxy]:
    """One fault proxy for a module, before S3 unless the module says otherwise."""
    with fault_proxy(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture
def proxy(proxies: Proxy) -> Iterator[Proxy]:
    """The module's fault proxy, without rules before and after."""
    yield proxies
    proxies.reset()


@pytest.fixture
def proxied(settings: Settings, proxy: Proxy) -> dict[str, str]:
    """The lake's storage options, through the proxy."""
    return {**settings.storage_options, "aws_endpoint": proxy.endpoint()}


@pytest.fixture
def faulty(lake: Lake, proxied: dict[str, str]) -> Lake:
    """`lake` through the proxy, with limits short enough to wait for; each stands for the longer one of Settings."""
    return Lake(
        lake.uri, {**proxied, "timeout": "2s", "connect_timeout": "1s", "max_retries": "2", "retry_timeout": "6s"}
    )
