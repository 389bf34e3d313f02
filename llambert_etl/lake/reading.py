"""Reading tables: which rows, of which version, and the one place where frames over tables are read."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import polars as pl
from deltalake import DeltaTable
from polars.exceptions import PanicException, PolarsError

from llambert_etl.errors import DataError
from llambert_etl.lake.commits import fence_of
from llambert_etl.partition import Partition
from llambert_etl.schemas import TableName
from llambert_etl.store.faults import store_faults

# Where a plan says which files it reads: the table's address comes before the folders of its partitions.
_TABLE = re.compile(r"SCAN \[(.*?)/task=")


class Snapshot:
    """Tables as they were when this was opened, whoever writes meanwhile: for all that one step reads and accounts for.

    It stays readable for `RETENTION`, within which upkeep deletes no file that it names.
    """

    def __init__(self, opened: Mapping[TableName, DeltaTable], options: dict[str, Any]) -> None:
        self._opened, self._options = opened, options

    @property
    def versions(self) -> dict[str, int]:
        return {table: delta.version() for table, delta in self._opened.items()}

    def scan(
        self, table: TableName, task: str, partition: Partition | None = None, *, upto: Partition | None = None
    ) -> pl.LazyFrame:
        """Return the rows of one task: of one partition, of the partitions up to `upto`, or all."""
        frame = pl.scan_delta(self._opened[table], storage_options=self._options).filter(pl.col("task") == task)
        if partition is not None:
            frame = frame.filter(pl.col("partition") == str(partition))
        if upto is not None:
            frame = frame.filter(pl.col("partition") <= str(upto))
        return frame

    def partitions(self, table: TableName, task: str) -> list[Partition]:
        """Return the partitions in which the task has rows, oldest first."""
        found = self._opened[table].partitions()
        return sorted(Partition(entry["partition"]) for entry in found if entry["task"] == task)

    def was_replaced(self, table: TableName, task: str, partition: Partition) -> bool:
        """Tell whether the partition was ever written whole, if only with no rows."""
        return self._opened[table].transaction_version(fence_of(task, partition)) is not None

    def files(self, table: TableName, task: str) -> pl.DataFrame:
        """Return the files that hold a task's rows, with what Delta's log says of each: `path`, `num_records`, `min.*`.

        The oldest partition comes first; nothing but the log is read.
        """
        named = pl.DataFrame(self._opened[table].get_add_actions(flatten=True))
        return named.filter(pl.col("partition.task") == task).sort("partition.partition", "path")


def scan_files(uris: Sequence[str], options: Mapping[str, Any], *, whose: str | None = None) -> pl.LazyFrame:
    """Return the rows of Parquet files, whether a version names them or not; `whose` is a column for their addresses.

    What a later version of llambert has in some of them is left out.
    """
    return pl.scan_parquet(
        list(uris),
        storage_options=dict(options) or None,
        hive_partitioning=False,
        glob=False,
        extra_columns="ignore",
        include_file_paths=whose,
    )


def collect(frame: pl.LazyFrame, *, engine: Literal["auto", "streaming"] = "auto") -> pl.DataFrame:
    """Read a frame over tables: nothing else does, so that no fault of the store is taken for one of ours."""
    with store_faults(_Read(frame)):
        return frame.collect(engine=engine)


def count(frame: pl.LazyFrame) -> int:
    """Return how many rows a frame over tables has."""
    return int(collect(frame.select(pl.len())).item())


def stream(frame: pl.LazyFrame, rows: int, chunk_rows: int) -> Iterator[pl.DataFrame]:
    """Yield the `rows` rows of a frame over tables, about `chunk_rows` at a time.

    Raise DataError where they are not as many: where polars' reader panics, at a file that is cut, its batches end as
    if there were no more.
    """
    where, left = _Read(frame), rows
    with store_faults(where):
        batches = iter(frame.collect_batches(chunk_size=chunk_rows))
    while True:
        with store_faults(where):
            batch = next(batches, None)
        if batch is None:
            break
        left -= batch.height
        yield batch
    if left:
        raise DataError(
            f"{where}: the table is damaged: {rows - left} of {rows} rows could be read; see the runbook, "
            "`restore a table`"
        )


class _Read:
    """Says which tables a frame reads, where that is asked: when something has failed."""

    def __init__(self, frame: pl.LazyFrame) -> None:
        self._frame = frame

    def __str__(self) -> str:
        try:
            found = _TABLE.findall(self._frame.explain())
        except (PolarsError, PanicException, OSError):
            found = []
        return ", ".join(dict.fromkeys(found)) or "lake"
