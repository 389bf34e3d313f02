"""Parquet files written at their final place, where no Delta reader sees them until a commit names them."""

import json
import time
import uuid
from collections.abc import Iterable, Iterator

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake.transaction import AddAction
from pydantic import BaseModel, ConfigDict

from llambert_etl.errors import DataError
from llambert_etl.lake.layout import file_schema, runs, writer_options
from llambert_etl.partition import Partition
from llambert_etl.schemas import TABLES, TableName
from llambert_etl.store.faults import store_faults
from llambert_etl.store.storage import Storage, safe_key

# A file is closed at this size: large enough to scan well, small enough to upload again.
_MAX_FILE_BYTES = 128 * 1024 * 1024


class StagedFile(BaseModel):
    """One Parquet file and what its Delta action says of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    bytes: int
    rows: int
    statistics: str


class StagedFiles(BaseModel):
    """What one writer staged. `replaces` is the partition's commit key when the work began: it fences late writers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: tuple[StagedFile, ...]
    replaces: int | None

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)


def check_schema(table: TableName, rows: pa.Table) -> None:
    """Refuse rows whose Arrow schema is not exactly the declared one: Delta would cast an int to a string silently.

    Strings may be views, as polars has them: then nothing is copied before it is written.
    """
    declared = TABLES[table].schema
    found = {field.name: pa.string() if pa.types.is_string_view(field.type) else field.type for field in rows.schema}
    for field in declared:
        if field.name not in found:
            raise DataError(f"table {table}: column {field.name!r} is missing; expected {field.type}")
        if found[field.name] != field.type:
            raise DataError(f"table {table}: column {field.name!r} is {found[field.name]}, expected {field.type}")
    extra = sorted(set(found) - {field.name for field in declared})
    if extra:
        raise DataError(f"table {table}: unexpected columns {extra}; the declared ones are {declared.names}")


def write_parquet(
    storage: Storage, table: TableName, task: str, partition: Partition, chunks: Iterable[pa.Table], name: str
) -> tuple[StagedFile, ...]:
    """Stream chunks into Parquet files below the partition's folder, as the table's layout has it.

    What whoever gives the chunks raises passes as it is.
    """
    staged: list[StagedFile] = []
    writer: _Part | None = None
    for group in runs(table, _checked(table, chunks, task, partition)):
        writer = writer or _Part(storage, table, task, partition, name)
        writer.write(group)
        if writer.bytes >= _MAX_FILE_BYTES:
            staged.append(writer.finish())
            writer = None
    if writer is not None:
        staged.append(writer.finish())
    return tuple(staged)


def missing(storage: Storage, table: TableName, staged: StagedFiles, oldest: int) -> list[str]:
    """Return the files that no commit may name: gone, cut, or written before `oldest`, in milliseconds."""
    folders = {file.key.rpartition("/")[0] for file in staged.files}
    found = {info.path: info for folder in folders for info in storage.list(f"{table}/{folder}")}

    def stands(file: StagedFile) -> bool:
        info = found.get(storage.path(f"{table}/{file.key}"))
        return info is not None and info.size == file.bytes and int(info.mtime.timestamp() * 1000) >= oldest

    return [file.key for file in staged.files if not stands(file)]


def _checked(table: TableName, chunks: Iterable[pa.Table], task: str, partition: Partition) -> Iterator[pa.Table]:
    names = file_schema(table).names
    for chunk in chunks:
        check_schema(table, chunk)
        for column, wanted in (("task", task), ("partition", str(partition))):
            found = pl.Series(chunk.column(column)).unique().to_list()
            if found not in ([], [wanted]):
                raise DataError(f"table {table}: rows of {column} {found[:3]!r} were to be written to {wanted!r}")
        if chunk.num_rows:
            yield chunk.select(names)


class _Part:
    """One Parquet file being written."""

    def __init__(self, storage: Storage, table: TableName, task: str, partition: Partition, name: str) -> None:
        # The name is new each time: a retry must never write over a file that was committed meanwhile.
        part = f"{name}-{uuid.uuid4().hex}.parquet"
        self._key = safe_key(f"task={task}", f"partition={partition}", part)
        self._storage = storage
        self._path = safe_key(table, self._key)
        self._where = f"{storage.uri}/{table}"
        with store_faults(self._where):
            self._sink = storage.create(self._path)
            self._writer = pq.ParquetWriter(self._sink, file_schema(table), **writer_options(table))
        self.bytes = 0

    def write(self, group: pa.Table) -> None:
        with store_faults(self._where):
            self._writer.write_table(group, row_group_size=group.num_rows)
            self.bytes = self._sink.tell()

    def finish(self) -> StagedFile:
        with store_faults(self._where):
            self._writer.close()
            self._sink.close()
            with self._storage.open(self._path) as stream:
                footer = pq.read_metadata(stream)
        return StagedFile(
            key=self._key, bytes=self._storage.size(self._path), rows=footer.num_rows, statistics=_statistics(footer)
        )


def _statistics(footer: pq.FileMetaData) -> str:
    """Return Delta's statistics from the Parquet footer; without them readers cannot skip files."""
    lowest: dict[str, object] = {}
    highest: dict[str, object] = {}
    nulls: dict[str, int] = {}
    for group in range(footer.num_row_groups):
        for index in range(footer.num_columns):
            column = footer.row_group(group).column(index)
            statistics, name = column.statistics, column.path_in_schema
            if statistics is None or "." in name:
                continue
            nulls[name] = nulls.get(name, 0) + (statistics.null_count or 0)
            if statistics.has_min_max:
                lowest[name] = min(lowest.get(name, statistics.min), statistics.min)
                highest[name] = max(highest.get(name, statistics.max), statistics.max)
    return json.dumps({"numRecords": footer.num_rows, "minValues": lowest, "maxValues": highest, "nullCount": nulls})


def add_action(file: StagedFile, task: str, partition: Partition) -> AddAction:
    values = {"task": task, "partition": str(partition)}
    return AddAction(file.key, file.bytes, values, int(time.time() * 1000), True, file.statistics)
