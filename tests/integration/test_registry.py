"""The registry on a real MLflow server: what was registered is what is fetched, or the fetch is refused."""

import contextlib
import json
import sqlite3
import threading
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from pydantic import SecretStr

from laptop.mlflow import MlflowServer
from llambert_etl.compute.device import native_bf16
from llambert_etl.encoder.inference import Encoder
from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.partition import Partition
from llambert_etl.registry import ModelVersion, Registry
from llambert_etl.settings import Settings
from tests.models.encoders import LABELS, crafted, trained
from tests.models.traps import set_traps

DAY, NEXT = Partition("2026-11-10"), Partition("2026-11-11")
TEXTS = ["a good film", "bad [SEP] film", "x" * 300]


@pytest.fixture
def registry(registry_settings: Settings) -> Registry:
    return Registry.from_settings(registry_settings)


@pytest.fixture
def client(registry: Registry, registry_settings: Settings) -> MlflowClient:
    """Somebody else's hands on the same server."""
    return MlflowClient(registry_settings.mlflow_uri, registry_settings.mlflow_uri)


@pytest.fixture
def task() -> str:
    """A task that no other test has versions of."""
    return f"reviews_{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return crafted(tmp_path_factory.mktemp("encoder"), "positive")


def register(
    registry: Registry,
    task: str,
    encoder: Path,
    key: str = "k1",
    day: Partition = DAY,
    artifacts: Mapping[str, Path] | None = None,
) -> ModelVersion:
    return registry.register(
        task,
        day,
        run_key=key,
        folder=encoder,
        labels=LABELS,
        params={"epochs": 1, "strategy": "llm"},
        metrics={"gold.accuracy": 0.5, "gold.f1.positive": 0.25},
        config_hash="c" * 16,
        artifacts={"confusion.png": encoder / "config.json"} if artifacts is None else artifacts,
        manifest=json.dumps({"step": "train"}),
    )


def artifacts(client: MlflowClient, run_id: str) -> set[str]:
    return {entry.path for path in ("", "model", "model/model") for entry in client.list_artifacts(run_id, path)}


def test_a_registered_encoder_comes_back_whole(registry: Registry, task: str, encoder: Path) -> None:
    made = register(registry, task, encoder)
    assert registry.version(task, 1) == made
    assert registry.versions(task) == [made]
    folder = registry.download(made)
    assert {path.name for path in folder.iterdir()} == set(made.hashes)
    assert np.array_equal(Encoder.load(folder).predict(TEXTS), Encoder.load(encoder).predict(TEXTS))


def test_the_run_tells_the_whole_story_and_holds_no_pickle(
    registry: Registry, client: MlflowClient, task: str, encoder: Path
) -> None:
    made = register(registry, task, encoder)
    run = client.get_run(made.run_id)
    assert run.data.params == {"epochs": "1", "strategy": "llm"}
    assert run.data.metrics == made.metrics
    assert run.info.status == "FINISHED"
    held = artifacts(client, made.run_id)
    assert {"manifest.json", "confusion.png", "model/MLmodel", "model/model/model.safetensors"} <= held
    assert not [name for name in held if name.endswith((".pkl", ".bin", ".pt", ".py"))]


def test_the_same_run_key_gives_the_version_that_is_there(registry: Registry, task: str, encoder: Path) -> None:
    first, again = register(registry, task, encoder), register(registry, task, encoder)
    other = register(registry, task, encoder, key="k2", day=NEXT)
    assert first == again
    assert [version.version for version in registry.versions(task)] == [other.version, first.version] == [2, 1]
    assert registry.find(task, "k2") == other
    assert registry.find(task, "k3") is None


class Meeting(dict[str, Path]):
    """Artifacts that are handed out once two callers ask for them: both have looked for a version and found none."""

    def __init__(self) -> None:
        super().__init__()
        self._both = threading.Barrier(2, timeout=60)

    def items(self) -> Any:
        self._both.wait()
        return super().items()


def test_two_simultaneous_registrations_of_one_run_key_return_one_version(
    registry: Registry, client: MlflowClient, task: str, encoder: Path
) -> None:
    meeting = Meeting()
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(register, registry, task, encoder, artifacts=meeting) for _ in range(2)]
        first, second = (call.result() for call in calls)
    assert len(client.search_model_versions(f"name = 'llambert.{task}'")) == 2, "the race did take place"
    assert first == second == registry.find(task, "k1") == registry.version(task, 1)
    assert registry.versions(task) == [first], "the candidate that promote chooses is the one that train names"
    assert register(registry, task, encoder) == first


def test_a_run_that_breaks_off_leaves_no_version_and_the_rerun_makes_one(
    registry: Registry, client: MlflowClient, task: str, encoder: Path
) -> None:
    with pytest.raises(DataError):
        registry.register(
            task,
            DAY,
            run_key="k1",
            folder=encoder,
            labels=LABELS,
            params={},
            metrics={"a name that no metric has!": 0.5},
            config_hash="c",
        )
    assert registry.versions(task) == []
    assert register(registry, task, encoder).version == 1
    experiment = client.get_experiment_by_name(f"llambert.{task}")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.status for run in runs) == ["FAILED", "FINISHED"]


def test_versions_of_other_hands_are_left_out_and_never_loaded(
    registry: Registry, client: MlflowClient, task: str, encoder: Path
) -> None:
    made = register(registry, task, encoder)
    client.create_model_version(made.name, client.get_model_version(made.name, "1").source, made.run_id)
    assert registry.versions(task) == [made]
    with pytest.raises(DataError, match="was not registered by"):
        registry.version(task, 2)


def test_users_load_the_champion_with_mlflow_alone(
    registry: Registry, registry_settings: Settings, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = trained(tmp_path)
    made = register(registry, task, encoder)
    registry.set_champion(task, 1)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry_settings.mlflow_uri)
    texts = ["the film good", "the film bad", "x" * 300, "good [SEP] the film [CLS] bad"]
    answers = mlflow.pyfunc.load_model(f"models:/{made.name}@champion").predict(texts)
    ours = Encoder.load(encoder).predict(texts)
    assert list(answers["label"]) == [LABELS[best] for best in ours.argmax(axis=1)]
    assert np.allclose(answers["score"], ours.max(axis=1), atol=2e-2 if native_bf16() else 1e-6)
    assert registry.champion(task) == made


def test_traps_beside_a_registered_encoder_are_neither_fetched_nor_run(
    registry: Registry, client: MlflowClient, task: str, encoder: Path, tmp_path: Path
) -> None:
    made = register(registry, task, encoder)
    for trap in set_traps(tmp_path / "traps", tmp_path / "ran"):
        for place in ("model", "model/model"):
            client.log_artifact(made.run_id, str(trap), place)
    assert "model/model/python_model.pkl" in artifacts(client, made.run_id)
    folder = registry.download(made)
    assert {path.name for path in folder.iterdir()} == set(made.hashes)
    assert Encoder.load(folder).predict(TEXTS).shape == (len(TEXTS), len(LABELS))
    assert not (tmp_path / "ran").exists()


def test_a_swapped_artifact_is_refused(
    registry: Registry, client: MlflowClient, task: str, encoder: Path, tmp_path: Path
) -> None:
    made = register(registry, task, encoder)
    other = crafted(tmp_path / "other", "negative")
    client.log_artifact(made.run_id, str(other / "model.safetensors"), "model/model")
    with pytest.raises(DataError, match=r"model\.safetensors is not the file that was registered"):
        registry.download(made)


def test_a_flipped_bit_in_the_cache_is_mended_from_the_server(registry: Registry, task: str, encoder: Path) -> None:
    made = register(registry, task, encoder)
    weights = registry.download(made) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert (registry.download(made) / "model.safetensors").read_bytes() == (encoder / "model.safetensors").read_bytes()


def test_a_lost_artifact_is_a_data_error(registry: Registry, task: str, encoder: Path) -> None:
    made = register(registry, task, encoder)
    lost = made.model_copy(update={"hashes": {**made.hashes, "merges.txt": "0" * 64}})
    with pytest.raises(DataError, match=r"merges\.txt"):
        registry.download(lost)


def test_downloads_at_once_do_not_collide(registry: Registry, task: str, encoder: Path) -> None:
    made = register(registry, task, encoder)
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: registry.download(made), range(4)))
    assert len(folders) == 1
    assert [path.name for path in folders.pop().parent.iterdir()] == ["1"]


def test_wrong_credentials_are_a_configuration_error(
    registry_settings: Settings, registry: Registry, task: str, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = register(registry, task, encoder)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "undone when the test ends")
    stranger = Registry.from_settings(
        registry_settings.model_copy(update={"mlflow_password": SecretStr("wrong password")})
    )
    for ask in (stranger.ping, lambda: stranger.champion(task), lambda: stranger.download(made)):
        with pytest.raises(ConfigError, match="LLAMBERT_MLFLOW_PASSWORD"):
            ask()


def test_a_request_that_the_servers_database_refuses_may_be_tried_again(
    registry: Registry, task: str, encoder: Path, mlflow_server: MlflowServer
) -> None:
    """As where two promotions write one alias at once: MLflow says BAD_REQUEST, as if the request were wrong."""
    version = register(registry, task, encoder)
    with contextlib.closing(sqlite3.connect(mlflow_server.log.parent / "mlflow.db", timeout=60)) as database:
        database.execute(
            "CREATE TRIGGER other_was_first BEFORE INSERT ON registered_model_aliases "
            f"WHEN NEW.name = '{version.name}' BEGIN SELECT RAISE(ABORT, 'UNIQUE constraint failed'); END"
        )
        try:
            with pytest.raises(TransientError, match=f"champion of {task}: the MLflow server's database refused it"):
                registry.set_champion(task, version.version)
        finally:
            database.execute("DROP TRIGGER other_was_first")
    registry.set_champion(task, version.version)


def test_an_absent_version_is_named(registry: Registry, task: str) -> None:
    assert registry.champion(task) is None
    assert registry.versions(task) == []
    with pytest.raises(ConfigError, match=f"llambert.{task} has no version 7"):
        registry.version(task, 7)
