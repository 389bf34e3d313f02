"""The model registry: versions with the sha256 of each file, and the champion alias. The only importer of mlflow."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.partition import Partition, parse_partition
from llambert_etl.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

CHAMPION = "champion"
_CARD = "llambert.version"
_DECIDED = "llambert.decided_upto"
# What an encoder is made of. Nothing else is ever fetched: no pickle, no code, no requirements.
_FILES = re.compile(r"config\.json|model\.safetensors|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json"
                    r"|vocab\.(txt|json)|merges\.txt|llambert\.json")  # fmt: skip


class ModelVersion(BaseModel):
    """A registered encoder. `hashes` maps each file name to its sha256, from the request that made the version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    name: str
    version: int
    run_id: str
    hashes: dict[str, str]
    metrics: dict[str, float]
    labels: tuple[str, ...]
    config_hash: str
    partition: str


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_name(task: str) -> str:
    return f"llambert.{task}"


class Registry:
    """Talks to one MLflow server."""

    def __init__(self, client: "MlflowClient", cache: Path) -> None:
        self._client, self._cache = client, cache

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Raise ConfigError where no server is set, or where its address carries a password that logs would show."""
        if not settings.mlflow_uri:
            raise ConfigError(
                "no registry: set LLAMBERT_MLFLOW_URI to the address of the MLflow server"
            )
        if "@" in urlsplit(settings.mlflow_uri).netloc:
            raise ConfigError(
                "LLAMBERT_MLFLOW_URI holds credentials: use LLAMBERT_MLFLOW_USERNAME and LLAMBERT_MLFLOW_PASSWORD"
            )
        # MLflow's client takes credentials and limits from its own variables only.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        if settings.mlflow_username and settings.mlflow_password:
            os.environ["MLFLOW_TRACKING_USERNAME"] = (
                settings.mlflow_username.get_secret_value()
            )
            os.environ["MLFLOW_TRACKING_PASSWORD"] = (
                settings.mlflow_password.get_secret_value()
            )
        from mlflow import MlflowClient

        return cls(
            MlflowClient(settings.mlflow_uri, settings.mlflow_uri),
            settings.state / "models",
        )

    def ping(self) -> None:
        """Ask for one experiment; raise TransientError or ConfigError where that fails."""
        with _faults("ping"):
            self._client.search_experiments(max_results=1)

    def champion(self, task: str) -> ModelVersion | None:
        """Return what the alias names now, whoever moved it."""
        with _faults(f"champion of {task}", absent_is_none=True):
            return _parse(
                self._client.get_model_version_by_alias(model_name(task), CHAMPION)
            )
        return None

    def version(self, task: str, version: int) -> ModelVersion:
        with _faults(f"{model_name(task)} version {version}", absent_is_none=True):
            return _parse(
                self._client.get_model_version(model_name(task), str(version))
            )
        raise ConfigError(
            f"{model_name(task)} has no version {version}: see the versions in the MLflow UI"
        )

    def set_champion(self, task: str, version: int) -> None:
        """Move the alias and read it back. MLflow has no compare-and-set, so another writer may have come between."""
        with _faults(f"champion of {task}"):
            self._client.set_registered_model_alias(
                model_name(task), CHAMPION, str(version)
            )
            now = int(
                self._client.get_model_version_by_alias(
                    model_name(task), CHAMPION
                ).version
            )
        if now != version:
            raise TransientError(
                f"champion of {task}: set to {version} but reads {now}; another promotion ran, try again"
            )

    def decided_upto(self, task: str) -> Partition | None:
        """Return the last partition at which a retrain came to a decision."""
        with _faults(f"{model_name(task)}", absent_is_none=True):
            tags = self._client.get_registered_model(model_name(task)).tags
            return parse_partition(tags[_DECIDED]) if _DECIDED in tags else None
        return None

    def set_decided_upto(self, task: str, partition: Partition) -> None:
        """Remember the decision. A backfill of an earlier partition does not move it back."""
        if (self.decided_upto(task) or "") < partition:
            with _faults(model_name(task)):
                self._client.set_registered_model_tag(
                    model_name(task), _DECIDED, partition
                )

    def download(self, version: ModelVersion) -> Path:
        """Return a folder with the encoder's files, each verified. Asks the server only for what is not cached."""
        target = self._cache / version.name / str(version.version)
        if target.exists() and not _mismatch(target, version.hashes):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            for name in version.hashes:
                with _faults(f"{version.name} version {version.version}: {name}"):
                    self._client.download_artifacts(
                        version.run_id, f"model/model/{name}", scratch
                    )
            folder = Path(scratch) / "model" / "model"
            if wrong := _mismatch(folder, version.hashes):
                raise DataError(
                    f"{version.name} version {version.version}: {wrong} is not the file that was registered (sha256 "
                    "differs); it was changed in the artifact store, so promote another version or train again"
                )
            shutil.rmtree(target, ignore_errors=True)
            folder.rename(target)
        return target


def _mismatch(folder: Path, hashes: dict[str, str]) -> str | None:
    return next(
        (
            n
            for n, h in hashes.items()
            if not (folder / n).is_file() or sha256(folder / n) != h
        ),
        None,
    )


def _parse(found: "MlflowVersion") -> ModelVersion:
    where = f"{found.name} version {found.version}"
    try:
        version = ModelVersion.model_validate(
            json.loads(found.tags[_CARD])
            | {"name": found.name, "version": found.version, "run_id": found.run_id}
        )
    except (KeyError, ValueError, ValidationError) as error:
        raise DataError(
            f"{where}: was not registered by `llambert train`; move the alias to a version that was"
        ) from error
    if not version.hashes or not all(_FILES.fullmatch(name) for name in version.hashes):
        raise DataError(
            f"{where}: lists files that are no part of an encoder; move the alias to another version"
        )
    return version


@contextmanager
def _faults(what: str, *, absent_is_none: bool = False) -> Iterator[None]:
    """Translate what mlflow and requests raise. With `absent_is_none`, leave the block where the thing is not there."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException

    try:
        yield
    except MlflowException as error:
        code = error.get_http_status_code()
        if code == 404 and absent_is_none:
            return
        if code in (401, 403):
            raise ConfigError(
                f"registry, {what}: refused ({code}); check LLAMBERT_MLFLOW_USERNAME and LLAMBERT_MLFLOW_PASSWORD"
            ) from error
        if 400 <= code < 500 and code != 429:
            raise DataError(f"registry, {what}: {error.error_code}") from error
        raise TransientError(
            f"registry, {what}: no answer from the MLflow server of LLAMBERT_MLFLOW_URI"
        ) from error
    except RequestException as error:
        raise TransientError(
            f"registry, {what}: the transfer failed ({type(error).__name__})"
        ) from error
