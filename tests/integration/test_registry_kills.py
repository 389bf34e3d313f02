"""A registration or a move of the champion, killed at a request to a real MLflow server, and run again."""

import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from laptop.mlflow import MlflowServer
from llambert_etl.partition import Partition
from llambert_etl.registry import ModelVersion, Registry, model_name
from llambert_etl.settings import Settings
from tests.fakes.proxy import Fault, Proxy, fault_proxy
from tests.models.encoders import LABELS, crafted
from tests.processes.forks import Fork

DAY = Partition("2026-11-10")
# In the order of their requests; an upload is several.
MOMENTS = {
    "the run is made": ("POST", r"/runs/create$"),
    "files are uploaded": ("PUT", r"/mlflow-artifacts/.*model\.safetensors$"),
    "the run is ended": ("POST", r"/runs/update$"),
    "the version is made": ("POST", r"/model-versions/create$"),
    "the alias is set": ("POST", r"/registered-models/alias$"),
}


@pytest.fixture(scope="module")
def proxies(mlflow_server: MlflowServer) -> Iterator[Proxy]:
    """Before MLflow in this module, and not before S3."""
    with fault_proxy(mlflow_server.uri, keep_host=False) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return crafted(tmp_path_factory.mktemp("encoder"), "positive")


def crowning(settings: Settings, task: str, encoder: Path) -> None:
    """Register an encoder and make it champion. Runs in a fork."""
    registry = Registry.from_settings(settings)
    registry.set_champion(task, register(registry, task, encoder).version)


def register(registry: Registry, task: str, encoder: Path) -> ModelVersion:
    known = {"params": {"epochs": 1}, "metrics": {"gold.accuracy": 0.5}, "config_hash": "c" * 16, "manifest": "{}"}
    return registry.register(task, DAY, run_key="k", folder=encoder, labels=LABELS, **known)  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", ["kill_before", "kill_after"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_second_run_finishes_what_was_killed_and_makes_one_version(
    registry_settings: Settings, proxy: Proxy, encoder: Path, tmp_path: Path, moment: str, fault: Fault
) -> None:
    task = f"reviews_{uuid.uuid4().hex[:8]}"
    faulty = registry_settings.model_copy(update={"mlflow_uri": proxy.endpoint()})
    with Fork(crowning, faulty, task, encoder, log=tmp_path / "first.log") as first:
        proxy.rule(fault, *MOMENTS[moment], pid=first.pid)
        assert first.wait() == -signal.SIGKILL, first.last_words
    registry = Registry.from_settings(registry_settings)
    there, champion = registry.versions(task), registry.champion(task)
    assert len(there) == (moment == "the alias is set" or (moment, fault) == ("the version is made", "kill_after"))
    assert (champion is not None) is ((moment, fault) == ("the alias is set", "kill_after"))

    with Fork(crowning, faulty, task, encoder, log=tmp_path / "second.log") as second:
        assert second.wait() == 0, second.last_words
    (made,) = registry.versions(task)
    assert registry.champion(task) == made
    assert there in ([], [made])
    assert {path.name for path in registry.download(made).iterdir()} == set(made.hashes)
    client = MlflowClient(registry_settings.mlflow_uri, registry_settings.mlflow_uri)
    assert [found.status for found in client.search_model_versions(f"name = '{model_name(task)}'")] == ["READY"]
