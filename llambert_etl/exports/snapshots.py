"""Exports as plain Parquet: a new folder for each publish of a partition; `latest.json` names those that count."""

import datetime
import hashlib
import io
import uuid
from collections.abc import Iterator

import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from llambert_etl.config.exports import Parquet
from llambert_etl.exports.published import SCHEMA, Arrival, Batches, PublishedPartition
from llambert_etl.lake import Lake
from llambert_etl.partition import Partition
from llambert_etl.settings import Settings
from llambert_etl.store.atomic import edit_file
from llambert_etl.store.folders import Folder, drop_old_folders

_ROOT = "exports"
_LATEST = "latest.json"
_FILE = "labels.parquet"
# What is new in nearly every row repays no dictionary, and long text no statistics.
_FORMAT = {
    "compression": "zstd",
    "use_dictionary": ["task", "partition", "label", "model_name", "model_version"],
    "write_statistics": ["partition", "id", "label", "confidence", "model_version"],
}


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
    place: Parquet, published: PublishedPartition, batches: Batches, *, run: str, lake: Lake, settings: Settings
) -> Arrival:
    """Write the partition's file, then name it in `latest.json`: a reader who follows that never sees half."""
    task = published.task
    held = read_latest(lake, task).of(published.partition)
    if held is not None and held.labels_version > published.version:
        return "newer"
    if held is not None and held.labels_version == published.version and _folder(lake, task, held).holds(_hashes(held)):
        return "held"
    new = _write(lake, published, batches)

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


def _write(lake: Lake, published: PublishedPartition, batches: Batches) -> File:
    # New each time: a second writer, or a second try, must never write over a file that readers may have open.
    place, size, digest = f"{published.version}-{uuid.uuid4().hex[:8]}", 0, hashlib.sha256()

    def counted() -> Iterator[bytes]:
        nonlocal size
        for piece in _encoded(batches):
            size += len(piece)
            digest.update(piece)
            yield piece

    folder = Folder(lake.storage, _ROOT, published.task, published.partition, place)
    folder.write(_FILE, counted())
    file = File(
        path=f"{published.partition}/{place}/{_FILE}",
        partition=published.partition,
        rows=published.rows,
        bytes=size,
        sha256=digest.hexdigest(),
        labels_version=published.version,
        model_version=published.model_version,
    )
    folder.seal(_hashes(file), {_FILE: size})
    return file


def _encoded(batches: Batches) -> Iterator[bytes]:
    """Yield a Parquet file piece by piece, each batch a row group."""
    written = io.BytesIO()
    with pq.ParquetWriter(written, SCHEMA, **_FORMAT) as writer:
        for batch in batches:
            writer.write_batch(batch)
            yield written.getvalue()
            written.seek(0)
            written.truncate()
    yield written.getvalue()


def _folder(lake: Lake, task: str, file: File) -> Folder:
    return Folder(lake.storage, _ROOT, task, *file.folder)


def _hashes(file: File) -> dict[str, str]:
    return {_FILE: file.sha256}


def _key(task: str) -> str:
    return f"{_ROOT}/{task}/{_LATEST}"


def _parse(task: str, found: bytes | None) -> Latest:
    return Latest(task=task) if found is None else Latest.model_validate_json(found)
