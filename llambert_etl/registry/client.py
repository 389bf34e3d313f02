"""Talks to one MLflow server: registers versions, reads them back, moves the champion alias."""

import logging
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.imports import sparingly
from llambert_etl.partition import Partition, parse_partition
from llambert_etl.registry.faults import Absent, registry_faults
from llambert_etl.registry.models import ensure_model, use_up_numbers
from llambert_etl.registry.packaging import ARTIFACT, PLACE, package
from llambert_etl.registry.runs import FILE, RunMetric, find_run, log_run
from llambert_etl.registry.versions import (
    CARD,
    RUN_KEY,
    ModelVersion,
    blemish,
    by_run_key,
    encoder_files,
    model_name,
    parse,
)
from llambert_etl.settings import Settings
from llambert_etl.store.copies import cached, sha256

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion
    from mlflow.entities.model_registry import RegisteredModel

logger = logging.getLogger(__name__)

CHAMPION = "champion"
_DECIDED = "llambert.decided_upto"
_DECISION = "llambert.decision"
_MOVE = "llambert.move"
_STUDY = "llambert.study"
_NEVER_GIVEN = "llambert.labels_never_given"


class Registry:
    """Talks to one MLflow server."""

    def __init__(self, client: "MlflowClient", cache: Path) -> None:
        self._client, self._cache = client, cache

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Raise ConfigError where no server is set."""
        if not settings.mlflow_uri:
            raise ConfigError("no registry: set LLAMBERT_MLFLOW_URI to the address of the MLflow server")
        if settings.mlflow_uri.startswith(FILE):
            Path(settings.mlflow_uri.removeprefix(FILE)).parent.mkdir(parents=True, exist_ok=True)
        # MLflow's client takes credentials and limits from its own variables only.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # only the manifest belongs there
        if settings.mlflow_username and settings.mlflow_password:
            os.environ["MLFLOW_TRACKING_USERNAME"] = settings.mlflow_username.get_secret_value()
            os.environ["MLFLOW_TRACKING_PASSWORD"] = settings.mlflow_password.get_secret_value()
        # Two thirds of the time that importing MLflow takes. It can go without pandas: its package `skinny` does.
        with sparingly(absent=("fastapi", "pandas"), later=("mlflow.genai",)):
            from mlflow import MlflowClient
        return cls(MlflowClient(settings.mlflow_uri, settings.mlflow_uri), settings.model_cache)

    def ping(self) -> None:
        """Ask for one experiment; raise TransientError or ConfigError where that fails."""
        with registry_faults("ping"):
            self._client.search_experiments(max_results=1)

    def champion(self, task: str) -> ModelVersion | None:
        """Return what the alias names now, whoever moved it."""
        # Asked by alias, the server answers 400 for a model without one: no different from a wrong request.
        model = self._model(task, f"champion of {task}")
        number = None if model is None else model.aliases.get(CHAMPION)
        return None if number is None else self.version(task, int(number))

    def version(self, task: str, version: int) -> ModelVersion:
        found = self.lookup(task, version)
        if found is None:
            raise ConfigError(f"{model_name(task)} has no version {version}: see the versions in the MLflow UI")
        return found

    def lookup(self, task: str, version: int) -> ModelVersion | None:
        """Return the version, or None where there is none of this number."""
        try:
            return parse(self._get(task, version))
        except Absent:
            return None

    def unfit(self, task: str, version: int) -> str | None:
        """Say why a version must not label: it or its model is gone, or it is archived or not ready. None: it may."""
        try:
            return blemish(self._get(task, version))
        except Absent:
            if self._model(task) is None:
                return f"the registered model {model_name(task)} was deleted or renamed"
            return f"version {version} was deleted"

    def set_champion(self, task: str, version: int | None) -> None:
        """Move the alias (None: remove it) and read it back: another writer may have come between."""
        with registry_faults(f"champion of {task}"):
            if version is None:
                self._client.delete_registered_model_alias(model_name(task), CHAMPION)
                return
            self._client.set_registered_model_alias(model_name(task), CHAMPION, str(version))
            now = int(self._client.get_model_version_by_alias(model_name(task), CHAMPION).version)
        if now != version:
            raise TransientError(
                f"champion of {task}: set to {version} but reads {now}; another promotion ran, try again"
            )

    def announce_move(self, version: ModelVersion, number: int | None) -> None:
        """Write on a version by which move of its task it is to become champion; None takes that back."""
        with registry_faults(str(version)):
            value = "" if number is None else str(number)
            self._client.set_model_version_tag(version.name, str(version.version), _MOVE, value)

    def announced_move(self, version: ModelVersion) -> int | None:
        """Return the number of the move that was announced last."""
        tags = self._get(version.task, version.version).tags
        return int(tags[_MOVE]) if tags.get(_MOVE) else None

    def decided_upto(self, task: str) -> Partition | None:
        """Return the last partition at which a retrain came to a decision."""
        model = self._model(task)
        return parse_partition(model.tags[_DECIDED]) if model is not None and _DECIDED in model.tags else None

    def set_decided_upto(self, task: str, partition: Partition) -> None:
        with registry_faults(model_name(task)):
            self._client.set_registered_model_tag(model_name(task), _DECIDED, partition)

    def register(
        self,
        task: str,
        partition: Partition,
        *,
        run_key: str,
        folder: Path,
        labels: tuple[str, ...],
        params: Mapping[str, str | int | float],
        metrics: Mapping[str, float],
        config_hash: str,
        gold_hash: str = "",
        artifacts: Mapping[str, Path] = MappingProxyType({}),
        manifest: str = "",
        used: int = 0,
        never_given: Sequence[str] = (),
    ) -> ModelVersion:
        """Store an encoder folder and make it a version; the same run key gives the version that is there already.

        A new one has a number above `used`, the highest that the lake knows. The version comes last, in one request
        with the sha256 of its files: killed before it, there is no version.
        Simultaneous callers with one run key make twins, and all of them return the same one. The run names the labels
        that the encoder gave to no row of gold.
        """
        if (found := self.find(task, run_key)) is not None:
            return found
        name = model_name(task)
        run_id = self._log_run(name, run_key, folder, params, metrics, artifacts, manifest, never_given)
        card = ModelVersion(
            task=task,
            name=name,
            version=0,
            run_id=run_id,
            hashes={path.name: sha256(path) for path in encoder_files(folder)},
            metrics=dict(metrics),
            gold_hash=gold_hash,
            labels=labels,
            config_hash=config_hash,
            partition=partition,
        )
        with registry_faults(name):
            source = f"{self._client.get_run(run_id).info.artifact_uri}/{ARTIFACT}"
            ensure_model(self._client, name)
            use_up_numbers(self._client, name, self._search(task), used, source, run_id)
            tags = {CARD: card.card(), RUN_KEY: run_key}
            made = self._client.create_model_version(name, source, run_id, tags=tags)
        logger.info("registered %s version %s", name, made.version)
        if (found := self.find(task, run_key)) is None:
            raise TransientError(f"{name} version {made.version}: deleted as soon as it was registered; try again")
        if found.version != int(made.version):
            logger.info("version %s is a twin of version %d, which counts", made.version, found.version)
        return found

    def find(self, task: str, run_key: str) -> ModelVersion | None:
        """Return the version that was registered under this key: the first, where two calls at once made twins."""
        entry = by_run_key(self._search(task)).get(run_key)
        return None if entry is None else parse(entry)

    def versions(self, task: str) -> list[ModelVersion]:
        """Return the versions that `llambert train` registered, newest first and without the later of twins."""
        return [parse(entry) for entry in reversed(by_run_key(self._search(task)).values())]

    def run_page(self, version: ModelVersion) -> str:
        """Return where MLflow's pages show the run that made a version, below the server's address and `#/`."""
        with registry_faults(str(version)):
            experiment = self._client.get_run(version.run_id).info.experiment_id
        return f"experiments/{experiment}/runs/{version.run_id}"

    def parameters(self, version: ModelVersion) -> dict[str, str]:
        """Return what a version was trained with."""
        with registry_faults(f"{version.name} version {version.version}"):
            return dict(self._client.get_run(version.run_id).data.params)

    def log_study(
        self, task: str, kind: str, key: str, params: Mapping[str, str], metrics: Sequence[RunMetric], folder: Path
    ) -> str:
        """Keep a study's figures and files in a run, the same study in the same run; return the run's page."""
        name = model_name(task)
        with registry_faults(f"study of {task}"):
            found = find_run(self._client, name, _STUDY, key)
            run_id = found or log_run(self._client, name, {_STUDY: key}, f"study of {kind}", params, metrics, folder)
            experiment = self._client.get_run(run_id).info.experiment_id
        return f"experiments/{experiment}/runs/{run_id}"

    def note_decision(self, version: ModelVersion, decision: str) -> None:
        """Write a gate's decision on the version and on its run, where people look for it."""
        with registry_faults(str(version)):
            self._client.set_model_version_tag(version.name, str(version.version), _DECISION, decision)
            self._client.set_tag(version.run_id, _DECISION, decision)

    def decision(self, version: ModelVersion) -> str:
        """Return a gate's decision on the version, empty where none has been made."""
        return self._get(version.task, version.version).tags.get(_DECISION, "")

    def download(self, version: ModelVersion) -> Path:
        """Return a folder with the encoder's files, each verified. Asks the server only for what is not cached."""
        mend = "it was changed in the artifact store, so promote another version or train again"
        return cached(version.place(self._cache), version.hashes, partial(self._fetch, version), str(version), mend)

    def _fetch(self, version: ModelVersion, folder: Path) -> None:
        """Fetch from where the version says its files lie. Asked by run, MLflow pages through all logged models."""
        from mlflow.artifacts import download_artifacts, list_artifacts

        where = str(version)
        with registry_faults(where):
            source = self._client.get_model_version_download_uri(version.name, str(version.version))
            listed = list_artifacts(f"{source}/{PLACE}", tracking_uri=self._client.tracking_uri)
        # Asked for a lost file, the server answers 500, as if it were down.
        there = {item.path.rpartition("/")[2] for item in listed}
        if lost := sorted(set(version.hashes) - there):
            raise DataError(f"{where}: {lost} are gone from the artifact store; promote another version or train again")
        for name in version.hashes:
            place = f"{source}/{PLACE}/{name}"
            with registry_faults(f"{where}: {name}"):
                download_artifacts(place, dst_path=str(folder), tracking_uri=self._client.tracking_uri)

    def _model(self, task: str, what: str = "") -> "RegisteredModel | None":
        try:
            with registry_faults(what or model_name(task)):
                return self._client.get_registered_model(model_name(task))
        except Absent:
            return None

    def _get(self, task: str, version: int) -> "MlflowVersion":
        with registry_faults(f"{model_name(task)} version {version}"):
            return self._client.get_model_version(model_name(task), str(version))

    def _search(self, task: str) -> "list[MlflowVersion]":
        found: list[MlflowVersion] = []
        token: str | None = None
        with registry_faults(f"versions of {model_name(task)}"):
            while True:
                page = self._client.search_model_versions(f"name = '{model_name(task)}'", page_token=token)
                found += page
                token = page.token
                if not token:
                    return found

    def _log_run(
        self,
        name: str,
        run_key: str,
        folder: Path,
        params: Mapping[str, str | int | float],
        metrics: Mapping[str, float],
        artifacts: Mapping[str, Path],
        manifest: str,
        never_given: Sequence[str],
    ) -> str:
        """Return a finished run that holds the model and its account."""
        with registry_faults(f"run of {name}"), tempfile.TemporaryDirectory() as scratch:
            package(folder, Path(scratch) / ARTIFACT)
            for file_name, path in artifacts.items():
                shutil.copyfile(path, Path(scratch) / file_name)
            if manifest:
                (Path(scratch) / "manifest.json").write_text(manifest, encoding="utf-8")
            measured = [RunMetric(key, value) for key, value in metrics.items()]
            tags = {RUN_KEY: run_key} | ({_NEVER_GIVEN: ", ".join(never_given)} if never_given else {})
            return log_run(self._client, name, tags, run_key, params, measured, Path(scratch))
