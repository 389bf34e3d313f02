"""Exports as plain Parquet: a new folder for each publish of a partition; `latest.json` names those that count."""

import datetime
import hashlib
import tempfile
import uuid
from pathlib import Path

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from llambert_etl.config.exports import Parquet
from llambert_etl.exports.published import SCHEMA, Arrival, Batches, Published
from llambert_etl.lake import Lake
from llambert_etl.partition import Partition
from llambert_etl.settings import Settings
from llambert_etl.store.atomic import edit_file
from llambert_etl.store.folders import Folder, drop_old_folders
from llambert_etl.store.space import room_in

_ROOT = "exports"
_LATEST = "latest.json"
_FILE = "labels.parquet"


class File(BaseModel):
    """One partition's Parquet file; `path` starts beside `latest.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    partition: Partition
    rows: int
    bytes: int
    sha256: str
    labels_version: int
    model_version: int

    @property
    def folder(self) -> tuple[str, str]:
        partition, version, _ = self.path.split("/")
        return partition, version


class Latest(BaseModel):
    """What `latest.json` says: the files of a task that count, oldest partition first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    files: tuple[File, ...] = ()

    def of(self, partition: Partition) -> File | None:
        return next((file for file in self.files if file.partition == partition), None)

    def with_file(self, new: File) -> "Latest":
        others = [file for file in self.files if file.partition != new.partition]
        return Latest(task=self.task, files=tuple(sorted([*others, new], key=lambda file: file.partition)))

    def to_json(self) -> bytes:
        return self.model_dump_json(indent=1).encode()


def read_latest(lake: Lake, task: str) -> Latest:
    return _parse(task, lake.storage.read(_key(task)))


def write_snapshot(
    place: Parquet, published: Published, batches: Batches, *, run: str, lake: Lake, settings: Settings
) -> Arrival:
    """Write the partition's file, then name it in `latest.json`: a reader who follows that never sees half."""
    task = published.task
    held = read_latest(lake, task).of(published.partition)
    if held is not None and held.labels_version > published.version:
        return "newer"
    if held is not None and held.labels_version == published.version and _folder(lake, task, held).holds(_hashes(held)):
        return "held"
    new = _write(lake, published, batches, settings)

    def name(found: bytes | None) -> bytes:
        latest = _parse(task, found)
        before = latest.of(published.partition)
        if before is not None:
            if before.labels_version > new.labels_version:
                return latest.to_json()
            _folder(lake, task, before).touch()  # its readers of this moment have until maintain finds it old
        return latest.with_file(new).to_json()

    now = _parse(task, edit_file(_key(task), name, settings)).of(published.partition)
    return "exported" if now == new else "newer"


def drop_old_snapshots(lake: Lake, before: datetime.datetime) -> int:
    """Delete folders that `latest.json` has not named since a moment; return how many."""
    found, dropped = lake.storage.below(_ROOT), 0
    for task in {key.partition("/")[0] for key in found}:
        # Read first: what is named no more from then on was touched then, and so is too young to be listed as old.
        named = {file.folder for file in read_latest(lake, task).files}
        dropped += drop_old_folders(lake.storage, f"{_ROOT}/{task}", before, named.__contains__)
    return dropped


def _write(lake: Lake, published: Published, batches: Batches, settings: Settings) -> File:
    settings.state.mkdir(parents=True, exist_ok=True)
    with room_in(settings.state), tempfile.TemporaryDirectory(dir=settings.state) as scratch:
        local = Path(scratch, _FILE)
        with pq.ParquetWriter(local, SCHEMA, compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(batch)
        with local.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        file = File(
            # New each time: a second writer, or a second try, must never write over a file that readers may have open.
            path=f"{published.partition}/{published.version}-{uuid.uuid4().hex[:8]}/{_FILE}",
            partition=published.partition,
            rows=published.rows,
            bytes=local.stat().st_size,
            sha256=digest,
            labels_version=published.version,
            model_version=published.model_version,
        )
        _folder(lake, published.task, file).put(Path(scratch), _hashes(file))
    return file


def _folder(lake: Lake, task: str, file: File) -> Folder:
    return Folder(lake.storage, _ROOT, task, *file.folder)


def _hashes(file: File) -> dict[str, str]:
    return {_FILE: file.sha256}


def _key(task: str) -> str:
    return f"{_ROOT}/{task}/{_LATEST}"


def _parse(task: str, found: bytes | None) -> Latest:
    return Latest(task=task) if found is None else Latest.model_validate_json(found)
