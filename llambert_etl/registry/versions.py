"""What a registered version says of itself: the card in its tags, and the sha256 of each of its files."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from llambert_etl.errors import DataError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

CARD = "llambert.version"
RUN_KEY = "llambert.run_key"
# What an encoder is made of. Nothing else is ever stored or fetched: no pickle, no code.
_FILES = re.compile(r"config\.json|model\.safetensors|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json"
                    r"|vocab\.(txt|json)|merges\.txt|word_(shape|pronunciation)\.json|llambert\.json"
                    r"|(tokenizer|spiece|spm|sentencepiece(\.bpe)?)\.model")  # fmt: skip
_PREFIX = "llambert."
_NEEDED = ("config.json", "model.safetensors", "tokenizer_config.json", "llambert.json")


class ModelVersion(BaseModel, frozen=True, extra="forbid"):
    """A registered encoder. `hashes` maps each file name to its sha256, from the request that made the version.

    `metrics` were measured on the gold test rows that `gold_hash` identifies.
    """

    task: str
    name: str
    version: int
    run_id: str
    hashes: dict[str, str]
    metrics: dict[str, float]
    gold_hash: str = ""
    labels: tuple[str, ...]
    config_hash: str
    partition: str

    def card(self) -> str:
        """Return what is stored with the version; the server knows the rest."""
        return self.model_dump_json(exclude={"name", "version", "run_id"})

    def place(self, cache: Path) -> Path:
        """Return where a local copy of its files lies."""
        return cache / self.name / str(self.version)

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


def model_name(task: str) -> str:
    return f"{_PREFIX}{task}"


def task_name(model: str) -> str:
    """Return the task whose registered model this is."""
    return model.removeprefix(_PREFIX)


def encoder_files(folder: Path) -> list[Path]:
    """Return the files of an encoder folder; raise DataError where one is missing."""
    for name in _NEEDED:
        if not (folder / name).is_file():
            raise DataError(f"{folder}: no {name}, so this is not an encoder folder; train again")
    return sorted(path for path in folder.iterdir() if path.is_file() and _FILES.fullmatch(path.name))


def parse(found: "MlflowVersion") -> ModelVersion:
    where = f"{found.name} version {found.version}"
    try:
        version = ModelVersion.model_validate(
            json.loads(found.tags[CARD]) | {"name": found.name, "version": int(found.version), "run_id": found.run_id}
        )
    except (KeyError, ValueError, ValidationError) as error:
        raise DataError(
            f"{where}: was not registered by `llambert train`; move the alias to a version that was"
        ) from error
    if not version.hashes or not all(_FILES.fullmatch(name) for name in version.hashes):
        raise DataError(f"{where}: lists files that are no part of an encoder; move the alias to another version")
    return version


def blemish(found: "MlflowVersion") -> str | None:
    """Say why a version that is there must not label; None where it may."""
    if found.current_stage == "Archived":
        return f"version {found.version} is archived"
    return None if found.status == "READY" else f"version {found.version} is not ready ({found.status})"


def by_run_key(found: "Iterable[MlflowVersion]") -> "dict[str, MlflowVersion]":
    """Return the first version of each run key, oldest first: MLflow would take a second one."""
    first: dict[str, MlflowVersion] = {}
    for entry in sorted(found, key=lambda entry: int(entry.version)):
        if CARD in entry.tags and RUN_KEY in entry.tags:
            first.setdefault(entry.tags[RUN_KEY], entry)
    return first
